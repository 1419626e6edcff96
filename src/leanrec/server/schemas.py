"""Bodies of requests and replies. The schemas of /openapi.json are made from these types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from leanrec.engine.answers import ScoredItem
from leanrec.engine.events import KEY_LENGTH, Event
from leanrec.server.problems import Problem

Key = Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH)]
ItemKeys = Annotated[list[Key], Meta(max_length=100_000)]
History = Annotated[list[Key | Event], Meta(max_length=100_000)]


class RecommendOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of a request for recommendations.

    Attributes:
        k: Items wanted per user; all there are, where the model knows fewer.
        exclude_seen: Leave out the items of the user's history.
        allow: Only these items may be recommended.
        deny: These items may not be recommended.
        budget: Mean cost wanted, as a share of the full model's FLOPs; under load a server may answer at less.
        deadline_ms: Time after which the answer is of no use; the server's own limit if that is shorter.
        unknown: What a user gets of whose events the model knows none: "error" is a problem, which in a list stands in the user's
            place; "fallback" gives the most popular items, marked ``fallback``.
    """

    k: Annotated[int, Meta(ge=1, le=2**31)] = 10
    exclude_seen: bool = False
    allow: ItemKeys | None = None
    deny: ItemKeys | None = None
    budget: Annotated[float, Meta(gt=0)] | None = None
    deadline_ms: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    unknown: Literal["error", "fallback"] = "error"


class Recommend(RecommendOptions, kw_only=True):
    """Exactly one of history, user, histories and users; the latter two are answered with a list.

    Attributes:
        history: Events, oldest first: item keys, or items with their times for a model that reads them (`Model.reads`).
        user: A user whose events came by /v1/events.
        histories: Of many users.
        users: Many users.
    """

    history: History | None = None
    user: Key | None = None
    histories: list[History] | None = None
    users: list[Key] | None = None


class AddEvents(RecommendOptions, kw_only=True):
    """New events of a user, oldest first.

    Attributes:
        user: Any key; a user that is new begins with these events.
        items: As ``history`` of `Recommend`; those of unknown items are kept for a model that knows them.
        recommend: Whether to answer with what may follow.
    """

    user: Key
    items: Annotated[list[Key | Event], Meta(min_length=1, max_length=100_000)]
    recommend: bool = True


class Reload(msgspec.Struct, forbid_unknown_fields=True):
    """Which model answers from now on, or is asked beside the one that answers.

    Attributes:
        path: A run or an export; by default the one that is served is read again.
        shadow: Whether the model only goes into the shadow of the one that answers: it is asked for a share of the requests, and
            the metrics compare both. "promote" makes the shadow the model that answers, "drop" ends it.
        share: Share of the requests that a shadow is asked for; a tenth by default.
    """

    path: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    shadow: bool | Literal["promote", "drop"] = False
    share: Annotated[float, Meta(gt=0, le=1)] | None = None


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one user is recommended.

    Attributes:
        items: Best first; fewer than k where too few items remain.
        route: The route the user took; "fallback" for the most popular items.
        flops_ratio: Its FLOPs as a share of the full model's.
        unknown: Keys that are not in the catalogue; they were skipped.
        model: The first digits of the checksum of the model that answered.
        budget: The budget at which it was answered, under load perhaps below the one asked for; null for the model's usual one.
        fallback: Whether the model knows none of the user's events, and these are the most popular items, scored by their events.
    """

    items: list[ScoredItem]
    route: str
    flops_ratio: float
    unknown: list[str]
    model: str
    budget: float | None
    fallback: bool = False


InPlace = Annotated[
    Any,
    Meta(extra_json_schema={"anyOf": [{"$ref": f"#/components/schemas/{one.__name__}"} for one in (Answer, Problem)]}),
]
"""What stands for one of many users: an answer, or the problem of this user."""


class Accepted(msgspec.Struct, frozen=True):
    """Events that are stored.

    Attributes:
        user: Whose events they are.
        events: Number of all events of this user.
        unknown: Keys of these that the catalogue does not have; they begin to count when a model that knows them is loaded.
        answer: What may follow, if that was asked for and answered in time; the events are stored either way.
        problem: Why there is no answer, if one was asked for.
    """

    user: str
    events: int
    unknown: list[str]
    answer: Answer | None
    problem: Problem | None


class Item(msgspec.Struct, frozen=True):
    """An item of the catalogue."""

    item: str
    title: str


class Found(msgspec.Struct, frozen=True):
    """Items whose title or key has all words of a query, the most popular first."""

    items: list[Item]


class RouteShare(msgspec.Struct, frozen=True):
    """A route and its cost as a share of the full model's."""

    route: str
    flops_ratio: float


class Budgets(msgspec.Struct, frozen=True):
    """Mean costs that can be asked for, as shares of the full model's.

    Attributes:
        now: The usual budget as load has lowered it; null if it has not.
    """

    least: float
    usual: float
    most: float
    now: float | None


class ShadowModel(msgspec.Struct, frozen=True):
    """A model that is asked for a share of the requests, beside the one that answers."""

    model: str
    path: str
    share: float


class Model(msgspec.Struct, frozen=True):
    """What is served.

    Attributes:
        reads: What the model reads of every event beside its item, and so must be sent: "time", or nothing.
        shadow: Another model that is asked beside it; null for none.
    """

    model: str
    path: str
    items: int
    max_length: int
    reads: list[str]
    routes: list[RouteShare]
    budgets: Budgets | None
    shadow: ShadowModel | None


class Health(msgspec.Struct, frozen=True):
    """Whether the server is alive, or ready."""

    status: str
