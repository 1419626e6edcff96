"""What cases are made of: models on a log, or commands that print figures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from leanrec.data.simulate import Shop

FULL = "full"
Whole = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the budget of a routed model is chosen, on validation users.

    Attributes:
        rule: "cheapest" is the lowest that loses less than ``max_loss`` of the whole network's NDCG@10; "above" the lowest with
            which all metrics of the case are above the full model's by the share ``margin``; "fixed" is ``most``.
        max_loss: See ``rule``.
        margin: See ``rule``; the router was fitted on such users, so equal would be too little.
        most: Largest budget, as a share of the full model's FLOPs.
    """

    rule: Literal["cheapest", "above", "fixed"] = "cheapest"
    max_loss: Positive = 0.005
    margin: float = 0.01
    most: Positive = 0.34


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model to train and measure.

    Attributes:
        like: Another model of the case whose keys this one has, too, unless it gives its own.
        recipe: To start from.
        settings: Changes to it, as tables.
        plain: Whether the techniques of recipe and settings are dropped.
        init: Model of the case whose weights it starts from.
        teacher: Model of the case that it learns from.
        derive: Makes the configuration of what another model turned out to be, see `benchmarks.derived`.
        of: That other model.
        choose: Setting -> values; the combination with the best validation NDCG@10 is measured, the others are only trained.
        budget: Of a routed model.
        budgets: More budgets at which it is measured.
        routes: Whether its routes are held against those that do not look at the user.
        against: Models of the case over which its lead is told, user by user.
        int8: Whether its export with int8 weights is measured, too.
    """

    like: str = ""
    recipe: str = ""
    settings: dict[str, Any] = {}
    plain: bool = False
    init: str = ""
    teacher: str = ""
    derive: str = ""
    of: str = ""
    choose: dict[str, list[Any]] = {}
    budget: Budget | None = None
    budgets: tuple[Positive, ...] = ()
    routes: bool = False
    against: tuple[str, ...] = ()
    int8: bool = False

    def needs(self) -> list[str]:
        """Models of the case that come before it."""
        return list(dict.fromkeys(filter(None, (self.init, self.teacher, self.of, *self.against))))


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is measured of every model.

    Attributes:
        exclude_seen: Whether users' own items leave the rankings.
        both: Whether quality is also told the other way round.
        metrics: Of `leanrec.evaluate.metrics`, with intervals.
        forms: Timed in turns: as "run", as ONNX "export", or both; none times nothing.
        batches: Users of a request.
        seconds: For each model, form and size of batch.
    """

    exclude_seen: bool = True
    both: bool = False
    metrics: tuple[str, ...] = ("hr@10", "ndcg@10", "mrr@10")
    forms: tuple[Literal["run", "export"], ...] = ("run", "export")
    batches: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = (1, 256)
    seconds: float = 6.0


class Models(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False, tag="models", tag_field="kind"
):
    """A case of models on one log.

    Attributes:
        about: What it asks, in a sentence.
        log: Name in `benchmarks.logs`, or "shop" for the simulated one.
        shop: Of the simulated one.
        code: Raised by hand when the code measures something else than before under the same settings.
        seeds: Of training.
        settings: Of every model.
        full: The model that the others are held against; its name is "full".
        variants: The others, by name.
        measure: Of every model.
    """

    name: str = ""
    about: str
    log: str
    shop: Shop = Shop()
    code: Whole = 1
    seeds: tuple[Whole, ...] = (0,)
    settings: dict[str, Any] = {}
    full: Model | None = None
    variants: dict[str, Model] = {}
    measure: Measure = Measure()

    @property
    def models(self) -> dict[str, Model]:
        """All of them, the full one first."""
        return ({} if self.full is None else {FULL: self.full}) | self.variants


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command that prints figures, one JSON object a line; see `benchmarks.commands`.

    Attributes:
        like: Another variant whose keys this one has, too.
        command: Words; {python}, {logs}, {work}, {data:LOG}, {run:CASE/MODEL}, {export:CASE/MODEL} and {env:NAME} are filled in.
        timeout: Seconds.
        env: Variables of its environment.
        needs: Modules without which it is left out.
    """

    like: str = ""
    command: tuple[str, ...]
    timeout: Positive = 3600.0
    env: dict[str, str] = {}
    needs: tuple[str, ...] = ()


class Commands(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False, tag="command", tag_field="kind"
):
    """A case of commands: other libraries, servers, the engine.

    Attributes:
        about: What it asks, in a sentence.
        code: As in `Models`.
        variants: Commands, by name.
    """

    name: str = ""
    about: str
    code: Whole = 1
    variants: dict[str, Command]


Case = Models | Commands
