"""Recommender: all that training, evaluation, cost and the runtime ever see of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from leanrec.core.backbone import Backbone, Exits, ItemTable
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.core.evidence import Additions, Evidence, Rows
from leanrec.core.followers import Counts, Pairs
from leanrec.core.pricing import Pricing
from leanrec.core.shortcut import Shortcut
from leanrec.core.training_events import TrainingEvents
from leanrec.core.types import FULL, NO_NETWORK, Batch, Gates, Route

ONCE = ("choice", "criterion", "shortcut", "sparse")
"""Slots of a recommender that refuse to be filled while they are."""


class Objective(Protocol):
    """A training loss for next-item prediction."""

    def __call__(self, model: Recommender, batch: Batch, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Named, weighted scalar loss terms.

        Args:
            model: The recommender that is trained.
            batch: Training examples [B, T].
            states: The model's states [M, e] of the M steps of ``batch`` that have a target, in the order of `Batch.scored`; e is
                smaller than D where a narrower sub-model made them.
            targets: int64 [M], the items wanted of them.
        """
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a technique may fit its choices on, before or after the weights are trained.

    They are validation users on whom no figure is stated; see `data.split`.

    Attributes:
        batches: Starts one pass over the validation users: their histories, with the wanted item as the target of the
            newest step. The order is the same in every pass.
        current: Starts one pass over the same users' histories with the validation event at their end: what is known when the
            model goes into use. Without targets.
        flops: FLOPs of a request by a history's length and the route, head included, routing left out.
        routing: FLOPs of choosing a route, by a history's length.
        users: How many users there are.
        exclude_seen: Whether users' own items are left out when epochs are compared.
        report: Told what takes long, how much of it is done, and how much there is.
    """

    batches: Callable[[], Iterable[Batch]]
    current: Callable[[], Iterable[Batch]]
    flops: Callable[[int, Route], int]
    routing: Callable[[int], int]
    users: int = 0
    exclude_seen: bool = False
    report: Callable[[str, int, int], None] = lambda what, done, total: None


class RouteChoice(nn.Module, ABC):
    """Fills the slot `Recommender.choice`: which route each user takes.

    One that decides while the model runs (early exit) also has

        exits(model, states, block, budget)     asked after each block, but the last, with the states [B, e] that would score the
                                                users' next items: which users leave there, bool [B]. The route of a user who
                                                leaves is that of the blocks until there

    and `routes` then gives the routes that users start on.
    """

    @abstractmethod
    def all_routes(self) -> tuple[Route, ...]:
        """The K routes; the whole model is the last one."""

    @abstractmethod
    def routes(self, model: Recommender, batch: Batch, budget: float | None) -> list[Route]:
        """The route of each of the B users of a batch; see `Recommender.routes`."""

    @abstractmethod
    def decide(self, model: Recommender, batch: Batch) -> Tensor | None:
        """Scores [B, K] of the routes for the users of a batch; None where no route is scored before the model runs."""

    @abstractmethod
    def pricing(self) -> Pricing | None:
        """How scores become routes; None before `calibrate`."""

    @abstractmethod
    def budgets(self) -> tuple[float, float] | None:
        """The least and the largest mean cost that can be asked for, as shares of the full model's; None before `calibrate`."""

    @abstractmethod
    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        """Fit on validation users what is not trained with the weights."""


class SparseScores(nn.Module, ABC):
    """Fills the slot `Recommender.sparse`: evidence for few items, which is added to the network's scores (`core.evidence`)."""

    @abstractmethod
    def evidence(self, batch: Batch, scored: Tensor | None = None) -> Evidence:
        """Evidence for the items that come next.

        Args:
            batch: Histories [B, T]; with ``scored`` training examples, whose own later events are not counted then.
            scored: int64 [M], flat indices of the steps that are asked for (`Batch.scored`); None for the B users' newest steps.
        """

    @abstractmethod
    def alone(self, batch: Batch) -> Evidence:
        """Evidence for the B users' next items where no network is asked; weighed by itself, not for what a network lacks."""

    @abstractmethod
    def signs(self, batch: Batch) -> Tensor:
        """Numbers [B, S] that tell how much is known of the B users' next items, at next to no cost; the same S for all batches."""

    @abstractmethod
    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        """Fit on validation users what is not trained with the weights."""

    @abstractmethod
    def rows(self) -> Rows:
        """The same as numbers, for engines without torch."""

    @abstractmethod
    def counted(self) -> tuple[Counts, Pairs] | None:
        """What was counted, as a copy, and which pairs count, so that newer events can be added; None if nothing was."""

    @abstractmethod
    def recount(self, counts: Counts) -> None:
        """Take what `counted` gave, with newer events added. The network and all weights stay as they are."""

    @abstractmethod
    def flops(self, channels: int) -> int:
        """FLOPs for a user: reading rows, and scoring their items with states of so many channels."""


class Criterion(nn.Module, ABC):
    """Fills the slot `Recommender.criterion`: the training loss where it is not the objective of the whole model alone."""

    @abstractmethod
    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        """Named, weighted scalar loss terms of a batch with targets."""


class Recommender(nn.Module):
    """A backbone, what it is trained on, and which route each user takes.

    A technique fills slots, at most one technique each. What fills one may follow training by having one of these methods:

        count(events)               called before the first step with all training events (`TrainingEvents`), for what is counted
        begin(model, held_out)      called before the first step, with validation users (`HeldOut`) and the weights that training
                                    starts from
        advance(model, progress)    called at the start of each epoch with the share of the stage's epochs that is done, in [0, 1)
        learn_from(model, teacher)  called before training with the run named as teacher, or None; raises ConfigError if it
                                    needs one, or cannot use the one that is named

    Attributes:
        backbone: Slot: embeds histories; its parts are slots of their own, see `Backbone`.
        objective: Slot: the loss of states and the items that come next.
        choice: Slot: chooses routes; None for a model with one route.
        criterion: Slot: the loss terms of a batch; None for the objective of the whole model.
        sparse: Slot: what is added to the scores of few items; None for the network's scores alone.
        shortcut: Slot: who is answered by that alone; None where the network answers all. A choice whose users leave between blocks
            leaves it out.

    Raises:
        CompositionError: On setting `choice`, `criterion`, `shortcut` or `sparse` while it is filled; set it to None first to
            replace what is there.
    """

    choice: RouteChoice | None
    criterion: Criterion | None
    shortcut: Shortcut | None
    sparse: SparseScores | None

    def __init__(self, backbone: Backbone, objective: Objective) -> None:
        super().__init__()
        self.backbone = backbone
        self.objective = objective
        self.choice = self.criterion = self.shortcut = self.sparse = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a slot that is filled once is not filled again by mistake, which would drop what is there."""
        if name in ONCE and value is not None and (held := getattr(self, name, None)) is not None:
            raise CompositionError(
                f"expected an empty slot {name!r}, got one that {type(held).__name__} fills, so that {type(value).__name__} "
                "would drop it; empty it first, or train with one of them"
            )
        super().__setattr__(name, value)  # pyright: ignore[reportArgumentType]

    @property
    def items(self) -> ItemTable:
        """The item table."""
        return self.backbone.items

    @property
    def reads(self) -> frozenset[str]:
        """What it reads of a history beside items; see `Backbone.reads`."""
        return self.backbone.reads

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named, weighted loss terms of a batch with targets; the trainer adds them up."""
        if self.criterion is not None:
            return self.criterion.terms(self, batch)
        return self.objective_of(self.backbone.examples(batch))

    def objective_of(self, examples: Batch, route: Route = FULL, gates: Gates | None = None) -> dict[str, Tensor]:
        """The objective's terms of training examples, run as in `Backbone.encode`."""
        return self.objective(self, examples, *self.scored(examples, route, gates))

    def scored(self, batch: Batch, route: Route = FULL, gates: Gates | None = None) -> tuple[Tensor, Tensor]:
        """States [M, e] and targets int64 [M] of the steps of training examples that have a target."""
        index, targets = batch.scored()
        return self.backbone.encode(batch, route, gates).states.flatten(0, 1).index_select(0, index), targets

    def nll(self, batch: Batch, states: Tensor, targets: Tensor) -> Tensor:
        """Mean negative log-likelihood of targets int64 [M] under the full softmax, for the states [M, e] of the scored steps."""
        if self.sparse is None:
            return self.items.nll(states, targets)
        return self.items.nll_with(states, targets, self.sparse.evidence(batch, batch.scored()[0]))

    def score_some(self, batch: Batch, states: Tensor, *ids: Tensor) -> tuple[Tensor, ...]:
        """Scores [M, K] of some items for the states [M, e] of the scored steps of training examples.

        Args:
            batch: Training examples.
            states: Of its scored steps.
            ids: int64 [K] or [M, K] each.
        """
        found = [self.items.score(states, some) for some in ids]
        if self.sparse is not None:
            evidence = self.sparse.evidence(batch, batch.scored()[0])
            found = [scores + evidence.at(some) for scores, some in zip(found, ids, strict=True)]
        return tuple(found)

    def learn_from(self, teacher: Recommender | None) -> None:
        """Hand on the model that was named as a teacher, if any; called before training. It is never saved, counted or deployed.

        Raises:
            ConfigError: A teacher is named and nothing in this model learns from it, or the other way round; or the teacher reads
                what the model does not.
        """
        unread = sorted((teacher.reads if teacher is not None else frozenset[str]()) - self.reads)
        if unread:
            raise ConfigError(
                f"expected a teacher that reads what the model reads, got one that also reads {', '.join(unread)}; take a backbone "
                "that reads it too, or another teacher"
            )
        learners = self._methods("learn_from")
        if not learners:
            refuse_teacher(teacher)
        for learn in learners:
            learn(self, teacher)

    def count(self, events: TrainingEvents) -> None:
        """Called before the first step, before `begin`, with all training events."""
        for count in self._methods("count"):
            count(events)

    def begin(self, held_out: HeldOut) -> None:
        """Called before the first step, with the weights that training starts from."""
        for begin in self._methods("begin"):
            begin(self, held_out)

    def advance(self, progress: float) -> None:
        """Called at the start of each epoch with the share of the stage's epochs that is done; for schedules."""
        for advance in self._methods("advance"):
            advance(self, progress)

    def _methods(self, name: str) -> list[Callable[..., None]]:
        """This optional method of all that fills a slot and has it."""
        parts = (self.backbone, self.objective, self.choice, self.criterion, self.sparse, self.shortcut)
        return [getattr(part, name) for part in parts if hasattr(part, name)]

    def all_routes(self) -> tuple[Route, ...]:
        """Every route this model can answer with, once it is calibrated; the whole model is the last one."""
        others = (FULL,) if self.choice is None else self.choice.all_routes()
        return others if self._shorter is None else (NO_NETWORK, *others)

    @property
    def _shorter(self) -> Shortcut | None:
        """The shortcut, where routes are chosen before the model runs."""
        return None if hasattr(self.choice, "exits") else self.shortcut

    def decide(self, batch: Batch) -> Tensor | None:
        """Scores [B, K] of the routes, from which they are chosen; None if there is nothing to choose."""
        if self._shorter is not None:
            return self._shorter.decide(self, batch)
        return None if self.choice is None else self.choice.decide(self, batch)

    def pricing(self) -> Pricing | None:
        """How the scores of `decide` become routes; None if there is nothing to choose, or before `calibrate`."""
        if self._shorter is not None:
            return self._shorter.pricing(self)
        return None if self.choice is None else self.choice.pricing()

    def calibrate(self, held_out: HeldOut) -> None:
        """Fit on validation users what is not trained with the weights; called once, when training has ended."""
        if self.sparse is not None:
            self.sparse.calibrate(self, held_out)
        if self.choice is not None:
            self.choice.calibrate(self, held_out)
        if self._shorter is not None:
            self._shorter.calibrate(self, held_out)

    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        """The route of each of the B users. Deterministic.

        Args:
            batch: Histories [B, T].
            budget: Mean cost wanted, as a share of the full model's FLOPs; a model with one route ignores it.

        Raises:
            ConfigError: The budget is below what the cheapest route costs.
        """
        short = None if self._shorter is None else self._shorter.routes(self, batch, budget)
        if short is not None:
            return short
        return [FULL] * batch.size if self.choice is None else self.choice.routes(self, batch, budget)

    def exits(self, budget: float | None = None) -> Exits | None:
        """Who leaves after a block, at a budget; None if routes are chosen before the model runs."""
        exits: Callable[..., Tensor] | None = getattr(self.choice, "exits", None)
        return None if exits is None else lambda states, block: exits(self, states, block, budget)

    def budgets(self) -> tuple[float, float] | None:
        """The least and the largest mean cost that can be asked for, as shares of the full model's FLOPs; None if no choice."""
        if self._shorter is not None:
            return self._shorter.budgets()
        return None if self.choice is None else self.choice.budgets()

    def represent(self, batch: Batch, route: Route = FULL) -> Tensor:
        """States [B, e] of the newest step, in the space of the item table."""
        return self.backbone.encode(self.backbone.query(batch), route, last_only=True).states

    def score(self, batch: Batch, route: Route = FULL) -> Tensor:
        """Scores [B, N] of the whole catalogue; column j is item j + 1."""
        states = self.represent(batch, route)
        scores, more = self.catalogue(states), self.additions(batch, route=route)
        return scores if more is None else more.onto(scores)

    def catalogue(self, states: Tensor) -> Tensor:
        """Scores [M, N] of the whole catalogue for states [M, e], without what is added; for none of `NO_NETWORK` the prior."""
        if states.shape[1] or self.shortcut is None:
            return self.items.score(states)
        return states.new_ones(len(states), 1) @ self.shortcut.prior[None]

    def score_states(self, batch: Batch, states: Tensor, scored: Tensor | None = None) -> Tensor:
        """Scores [M, N] of the whole catalogue for states [M, e] of a network, by default of the newest steps of histories.

        Args:
            batch: Histories, or training examples.
            states: Of the steps that are asked for.
            scored: As in `SparseScores.evidence`.
        """
        scores, more = self.items.score(states), self.additions(batch, scored)
        return scores if more is None else more.onto(scores)

    def additions(self, batch: Batch, scored: Tensor | None = None, route: Route = FULL) -> Additions | None:
        """What is added to the scores of few items on a route, as in `score_states`; None if nothing is."""
        if self.sparse is None:
            return None
        found = self.sparse.alone(batch) if route == NO_NETWORK else self.sparse.evidence(batch, scored)
        return found.additions()

    def check(self, route: Route) -> None:
        """Raise CompositionError if the backbone cannot run this route."""
        self.backbone.check(route)


def refuse_teacher(teacher: Recommender | None) -> None:
    """Refuse a teacher that nothing learns from.

    Raises:
        ConfigError: One is named.
    """
    if teacher is not None:
        raise ConfigError(
            "expected no train.teacher, since no technique of this run learns from one; drop it, or add one that distils"
        )
