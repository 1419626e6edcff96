"""Backbone and ItemTable: named slots, capabilities, and the only loop over blocks.

A backbone is an item table, a stack of residual blocks and a final norm. A technique edits these slots; it never
needs to know which backbone it edits. Sub-models are prefixes: the first channels of every layer, some of the blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from leanrec.core.context import Context, Steps
from leanrec.core.dropout import dropout
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.core.evidence import Evidence
from leanrec.core.types import FULL, NO_NETWORK, PAD, Batch, Gates, Hidden, Memory, Route

_again: Callable[..., Tensor] = checkpoint  # pyright: ignore[reportUnknownVariableType]
SCORES_AT_ONCE = 2**22
"""Scores of the whole catalogue that are held for gradients at once."""


class Coded(NamedTuple):
    """Items as product-quantised codes.

    Attributes:
        codes: uint8 [K, m], a centroid of each of m parts.
        centroids: [m * 256, D / m], float or int8.
        scales: float [m * 256, 1], by which int8 centroids are multiplied.
    """

    codes: Tensor
    centroids: Tensor
    scales: Tensor | None = None


class ItemTable(nn.Module, ABC):
    """Slot 1: item vectors at the input, scores at the output. Row 0 is padding and always zero.

    A table has ``dim`` channels; any prefix of them can be used, as the route asks.

    Attributes:
        num_items: N.
        dim: Channels D.
        loss_dtype: Type of the matrix products of ``nll``; the trainer sets it.
    """

    num_items: int
    dim: int
    loss_dtype: torch.dtype = torch.float32

    @property
    def matrix(self) -> Tensor | None:
        """[N + 1, D], whose rows' inner products with states are the scores, row i that of item i; None for other tables."""
        return None

    @property
    def coded(self) -> Sequence[Coded]:
        """Blocks of items 1 to N as quantised codes, one after the other; none for other tables."""
        return ()

    def take(self, other: ItemTable, move: Callable[[Tensor], Tensor]) -> None:
        """Start from a table of the same kind with other items.

        Args:
            other: The table, of O items.
            move: Puts vectors [O, D] in the order of this table's items, and finds some for those that are new: [N, D].

        Raises:
            ConfigError: This kind of table cannot.
        """
        raise ConfigError(
            f"expected an item table that can take over those of other items, got {type(self).__name__}; train on the new log "
            "without --init"
        )

    @abstractmethod
    def embed(self, ids: Tensor, width: int | None = None) -> Tensor:
        """Vectors [..., w] of item ids [...]."""

    @abstractmethod
    def score(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Scores of states [M, w]: [M, N] for the whole catalogue (column j is item j + 1), or [M, K] for ids [K] or [M, K]."""

    @abstractmethod
    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean negative log-likelihood of targets [M] under the full softmax over states [M, w], without [M, N] in memory."""

    def nll_with(self, hidden: Tensor, targets: Tensor, evidence: Evidence) -> Tensor:
        """As `nll`, with what evidence for the M states adds to the scores. Some states at a time, computed again for gradients."""
        few = max(1, SCORES_AT_ONCE // self.num_items)

        def loss(states: Tensor, wanted: Tensor, ids: Tensor, mass: Tensor, gain: Tensor) -> Tensor:
            scores = Evidence(ids, mass, gain).additions().onto(self.score(states).float())
            return F.cross_entropy(scores, wanted - 1, reduction="sum")

        total = hidden.new_zeros(())
        for start in range(0, len(targets), few):
            some = slice(start, start + few)
            total = total + _again(loss, hidden[some], targets[some], *evidence.rows(some), use_reentrant=False)
        return total / len(targets)

    @abstractmethod
    def top_k(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exact k best items of states [B, w]: ids and scores [B, k], best first.

        Args:
            hidden: States [B, w].
            k: Number of items.
            exclude: int64 [B, S] item ids that may not be returned, padded with 0.
        """


Exits = Callable[[Tensor, int], Tensor]
"""Asked after each block, but the last, with the states [B, e] that would score the users' next items and the number of the block:
which users leave there, bool [B]."""


@dataclass(frozen=True, slots=True)
class Diagram:
    """A drawing of the data flow in a part of a backbone.

    Attributes:
        title: What is drawn.
        wires: (from, to, layer) of every connection, in the order of computation.
    """

    title: str
    wires: tuple[tuple[str, str, str], ...]


class Block(nn.Module, ABC):
    """One residual layer. Works on any prefix width, found from its input, and on masked channels."""

    @abstractmethod
    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        """States [B, S, w] at steps ``have`` to states [B, S', w] at steps ``want``."""

    @abstractmethod
    def needs(self, want: Steps, steps: int) -> Steps:
        """The input steps from which the steps ``want`` can be computed; offsets stay below the reach ``steps``."""

    def memories(self) -> tuple[Memory, ...] | None:
        """The state to keep for each user so that a new event costs one step; None if the block has none."""
        return None

    def rows(self, x: Tensor, ctx: Context) -> tuple[Tensor, ...]:
        """What the memories hold of all steps: from the block's input [B, T, w] to [B, T, w] each."""
        raise CompositionError(f"expected a block with memories, got {type(self).__name__}, which has none")

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest state [B, w] and the new row [B, w] of each memory.

        Args:
            x: Input [B, w] at the newest step.
            read: Of each memory, the rows that it is read at side by side, [B, K * w], zeros before the first event; or the
                rows of all steps, [B, H, R, w / H], of which those before the newest step count.
            at: int64 [B], the newest step.
        """
        raise CompositionError(f"expected a block with memories, got {type(self).__name__}, which has none")

    def layers(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The layers of the block, in order, each the modules whose weights other layers of the same shape may share; no norms.

        A backbone that supports "share" names them; by default there are none.
        """
        return ()


class Backbone(nn.Module, ABC):
    """Slots ``items``, ``blocks``, ``norm``, and what may be done with them.

    Attributes:
        supports: Capabilities a technique may need: "width" (prefix slices), "depth" (any subset of blocks),
            "share" (weights of equal blocks may be tied).
        reads: What it reads of a history beside items, by the names of `Batch.context`; "time" is all there is. Times are there in
            training, evaluation, exports and requests then; nothing else changes. An event costs the whole history, not one step.
        causal: Whether the state of a step depends on that step and older ones only. The others are trained on hidden items.
        max_length: Longest history it reads; longer ones are cut to their newest events.
        heads: Widths must divide by this.
        scale: Factor on the item vectors at the input.
        dropout: On the input.
        enter: Slot: an elastic layer from embedding channels to hidden ones; None passes them on, the missing ones at zero.
        leave: Slot: an elastic layer from hidden channels to embedding ones; None passes on the first.
    """

    supports: ClassVar[frozenset[str]] = frozenset()
    reads: frozenset[str] = frozenset()
    causal: ClassVar[bool] = True
    items: ItemTable
    blocks: nn.ModuleList
    norm: nn.Module
    width: int
    max_length: int
    heads: int = 1
    scale: float = 1.0
    dropout: float = 0.0
    enter: nn.Module | None
    leave: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.enter = self.leave = None

    @property
    def longest(self) -> int:
        """Steps of the longest sequence that `query` makes."""
        return self.max_length

    def examples(self, batch: Batch) -> Batch:
        """Training examples: inputs and, as targets, the items to predict at each step. By default every next item.

        Args:
            batch: Histories [B, T] with the next item at every step as the target.
        """
        return batch

    def query(self, batch: Batch) -> Batch:
        """The sequence whose newest state scores the next item: the history itself, unless a backbone appends a token."""
        return batch

    def found(self) -> dict[str, Any]:
        """Fields of the configuration that training has determined, needed to build the same backbone again; by default none."""
        return {}

    def diagrams(self) -> tuple[Diagram, ...]:
        """Drawings of the data flow: by default the chain of blocks."""
        names = ["input", *(f"state {number}" for number in range(1, len(self.blocks) + 1))]
        kinds = [type(block).__name__ for block in self.blocks]
        return (Diagram(f"{len(kinds)} blocks", tuple(zip(names, names[1:], kinds, strict=False))),)

    def vectors(self, ids: Tensor, width: int) -> Tensor:
        """The first ``width`` channels [..., w] of the vectors of ids [...]."""
        return self.items.embed(ids, width)

    def positions(self, ctx: Context, have: Steps) -> Tensor | None:
        """What is added to the item vectors, [S, w] or [B, S, w]; None for a backbone without positions.

        What else the backbone reads of the events is in ``ctx`` (`Context.column`).
        """
        return None

    def encode(
        self,
        batch: Batch,
        route: Route = FULL,
        gates: Gates | None = None,
        last_only: bool = False,
        keep_layers: bool = False,
        skip: Tensor | None = None,
        exits: Exits | None = None,
    ) -> Hidden:
        """Run the blocks of a route.

        Args:
            batch: Histories [B, T].
            route: The sub-model, run on real slices and real skips.
            gates: A sub-model per user instead, run at full width with masks. For training; excludes ``route``.
            last_only: Compute only what the newest step depends on. Exact.
            keep_layers: Also return the states after every block.
            skip: Of the route's blocks, those that each user skips besides, bool [B, L]: a block gathers the users that
                keep it, runs on them and puts them back. Excludes ``gates``.
            exits: Asked who leaves; who left skips the blocks that follow. Excludes ``gates``.

        Returns:
            States [B, T, e], or [B, e] with ``last_only``.
        """
        if route == NO_NETWORK:
            return Hidden(torch.zeros(*batch.items.shape[: 1 if last_only else 2], 0, device=batch.items.device))
        order = range(len(self.blocks)) if route.layers is None else route.layers
        if skip is not None:
            idle = skip.all(0)
            order = [i for i in order if not idle[i]]
        if exits is not None:
            skip = torch.zeros(batch.size, len(self.blocks), dtype=torch.bool) if skip is None else skip.clone()
        blocks: list[Block] = [self.blocks[i] for i in order]  # pyright: ignore[reportAssignmentType]
        reach = self.longest if torch.compiler.is_exporting() else batch.items.shape[1]
        plan: list[Steps] = [(0,) if last_only else None]
        for block in reversed(blocks):
            plan.append(block.needs(plan[-1], reach))
        plan.reverse()
        channels = None if gates is None else gates.width
        ctx = Context(batch.lengths, batch.items.shape[1], route.width or self.width, channels, reach, batch.context)
        x = self._embed(batch, ctx, plan[0], route.emb, gates)
        kept: list[Tensor] = []
        for i, block, have, want in zip(order, blocks, plan, plan[1:], strict=False):
            y = block(x, ctx, have, want) if skip is None else _gathered(block, x, ctx, have, want, ~skip[:, i])
            if gates is not None and gates.layers is not None:
                keep = gates.layers[..., i : i + 1]
                y = keep * y + (1 - keep) * ctx.restrict(x, have, want)
            x = y
            if exits is not None and skip is not None and i != order[-1]:
                self._leave(x, ctx, want, route, exits, i, skip)
            if keep_layers:
                kept.append(x)
        x = ctx.restrict(x, plan[-1], (0,)) if last_only else x
        x = self.norm(x, ctx.channels)
        x = _open(self.left(x, route.emb), gates)
        return Hidden(x.squeeze(1) if last_only else x, tuple(kept), skip)

    def _leave(
        self, x: Tensor, ctx: Context, have: Steps, route: Route, exits: Exits, block: int, skip: Tensor
    ) -> None:
        """Ask the users who ran a block whether they leave after it, and mark in ``skip`` [B, L] what follows for who does."""
        rows = (~skip[:, block]).nonzero().squeeze(1)
        if not len(rows):
            return
        newest = ctx.rows(rows.to(x.device)).restrict(x[rows.to(x.device)], have, (0,))
        states = self.left(self.norm(newest, None), route.emb).squeeze(1)
        skip[rows[exits(states.float(), block).to(rows.device)], block + 1 :] = True

    def check(self, route: Route) -> None:
        """Refuse a route this backbone cannot run.

        Raises:
            CompositionError: Naming the rule that is broken and a value that would work.
        """
        if route == NO_NETWORK:
            return
        name = type(self).__name__
        if route.width is not None and ("width" not in self.supports and route.width != self.width):
            raise CompositionError(
                f"{name} does not support width; expected a route of width {self.width}, got {route}"
            )
        _within("width", route.width, self.width, self.heads, route)
        _within("emb", route.emb, self.items.dim, 1, route)
        if route.layers is not None:
            if "depth" not in self.supports and route.layers != tuple(range(len(self.blocks))):
                raise CompositionError(f"{name} does not support depth; expected a route with all blocks, got {route}")
            _ascending(route.layers, len(self.blocks), route)

    def _embed(self, batch: Batch, ctx: Context, have: Steps, emb: int | None, gates: Gates | None) -> Tensor:
        """The input [B, S, w] of the first block: the first ``emb`` channels of the item vectors, plus positions."""
        ids = batch.items
        if have is not None:
            at = ctx.at(have)
            ids = ids.gather(1, at.clamp_min(0)).masked_fill(at < 0, PAD)
        return self.entered(ids, ctx, have, emb, gates)

    def entered(self, ids: Tensor, ctx: Context, have: Steps, emb: int | None, gates: Gates | None = None) -> Tensor:
        """The input [B, S, w] of the first block, of ids [B, S] at steps ``have``; the rest as in `_embed`."""
        used = emb or self.items.dim
        used = used if self.enter is not None else min(ctx.width, used)
        x = _open(self.vectors(ids, used) * self.scale, gates)
        if self.enter is not None:
            x = self.enter(x, ctx.width)
        elif used < ctx.width:
            x = F.pad(x, (0, ctx.width - used))
        positions = self.positions(ctx, have)
        x = x if positions is None else x + positions
        return dropout(ctx.gate(x), self.dropout, self.training)

    def left(self, x: Tensor, emb: int | None) -> Tensor:
        """States [B, S, e] in the space of the item table."""
        return x[..., :emb] if self.leave is None else self.leave(x, emb).to(x.dtype)

    def chosen(self, route: Route) -> list[Block]:
        """The blocks of a route."""
        order = range(len(self.blocks)) if route.layers is None else route.layers
        return [self.blocks[i] for i in order]  # pyright: ignore[reportReturnType]


def _gathered(block: Block, x: Tensor, ctx: Context, have: Steps, want: Steps, kept: Tensor) -> Tensor:
    """A block run on the users bool [B] that keep it; the others' states pass by."""
    rows = kept.nonzero().squeeze(1).to(x.device)
    if len(rows) == len(x):
        return block(x, ctx, have, want)
    if not len(rows):
        return ctx.restrict(x, have, want)
    return ctx.restrict(x, have, want).index_copy(0, rows, block(x[rows], ctx.rows(rows), have, want))


def _open(x: Tensor, gates: Gates | None) -> Tensor:
    """``x`` [B, S, E] with closed embedding channels at zero."""
    return x if gates is None or gates.emb is None else x * gates.emb


def _within(what: str, value: int | None, most: int, multiple: int, route: Route) -> None:
    if value is None or (0 < value <= most and value % multiple == 0):
        return
    works = max(multiple, min(most, value // multiple * multiple))
    raise CompositionError(
        f"route {route}: expected {what} in 1..{most} and a multiple of {multiple}, got {value}; {works} would work"
    )


def _ascending(layers: Iterable[int], count: int, route: Route) -> None:
    layers = list(layers)
    if layers != sorted(set(layers)) or any(not 0 <= i < count for i in layers):
        works = sorted({i for i in layers if 0 <= i < count})
        raise CompositionError(
            f"route {route}: expected ascending blocks out of 0..{count - 1}, got {layers}; {works} would work"
        )
