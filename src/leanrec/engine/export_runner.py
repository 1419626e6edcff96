"""Run an export, whose manifest says which parts answer each route. Needs NumPy and what runs the format of the parts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from leanrec.artifact.exported import HISTORY, ROUTING, WEIGHTS, Exported, read_export
from leanrec.artifact.weights import read_weights
from leanrec.core.errors import ArtifactError, ConfigError
from leanrec.core.grouping import grouped
from leanrec.core.plain import FULL, NO_NETWORK, PAD, Route
from leanrec.core.pricing import Pricing
from leanrec.engine.additions import Added, EvidenceTable
from leanrec.engine.batches import Histories
from leanrec.engine.codes import CodedItems
from leanrec.engine.engine import Engine
from leanrec.engine.export_checks import MOST_NEWEST, check_export
from leanrec.engine.memories import Layout
from leanrec.engine.runner import StepRunner
from leanrec.engine.scoring import SCORES_HELD, Score, best_columns
from leanrec.formats import format_names, formats
from leanrec.formats.base import Format, Runnable

_SCORED_AT_ONCE = 8
"""Most states that a part scores in one call: it may hold many times as many numbers as it returns."""
_RADIX = 2**10
"""Fewest numbers for which fewer bits make sorting faster."""
_READ_AT_ONCE = 2**15
"""Numbers of a layer's states, padding included, that a part computes in one call: more take memory and save little time."""
_NONE = np.zeros(0, np.int64)


class ExportRunner(StepRunner):
    """Runs the parts of an export, each opened when it is first needed.

    Args:
        folder: Of the export, which has been checked.
        exported: Its manifest.
        form: Its format.
        expand: Whether a compressed item table is written out as vectors: faster, and larger than if it had never been compressed.
        at_once: Numbers of a layer's states that a part computes in one call.
    """

    def __init__(
        self, folder: Path, exported: Exported, form: Format, expand: bool = False, at_once: int = _READ_AT_ONCE
    ) -> None:
        weights = read_weights(folder / WEIGHTS)
        self.num_items, self.max_length = exported.data.items, exported.max_length
        self.reads = frozenset(exported.reads)
        self.exported, self._opened, self._lock = exported, dict[str, Runnable](), threading.Lock()
        self._steps = max(1, at_once // exported.channels)
        self._open = form.open(folder, expand)
        self._plan = {Route.parse(plan.route): plan for plan in exported.plan}
        self._layouts = {
            route: Layout(plan.memories, self.max_length) for route, plan in self._plan.items() if plan.step
        }
        self._only = next(iter(self._plan)) if len(self._plan) == 1 else None
        self._matrix = weights[exported.matrix] if exported.matrix else None
        self._prior = weights[exported.prior] if exported.prior else None
        self._coded = None
        if exported.codes:  # from a map of its own, which is let go of
            self._coded = _coded(exported, read_weights(folder / WEIGHTS))
        if self._coded is not None and expand:
            self._matrix, self._coded = self._coded.matrix(), None
        self._evidence = None
        if exported.evidence is not None:
            self._evidence = open_evidence(folder / exported.evidence.file, self.num_items)
        self.pricing = None
        if exported.router:
            costs, budgets, prices = (np.array(weights[name]) for name in ROUTING)
            self.pricing = Pricing(tuple(self._plan), costs, budgets, prices, exported.usual)

    def part(self, name: str) -> Runnable:
        """A part by its file, opened once."""
        if name not in self._opened:
            with self._lock:
                if name not in self._opened:
                    self._opened[name] = self._open(name)
        return self._opened[name]

    def open_all(self) -> None:
        """Open every part, so that no request waits for it."""
        for name in self.exported.parts():
            self.part(name)

    def routes(self, histories: Histories, budget: float | None) -> Sequence[Route]:
        if self.pricing is None:
            return [self._only or Route()] * len(histories)
        scores = self._read(self.exported.router, histories, len(self._plan))
        return self.pricing.choose(scores, histories.lengths, budget)

    def states(self, histories: Histories, route: Route) -> np.ndarray:
        if route == NO_NETWORK:
            return np.zeros((len(histories), 0), np.float32)
        plan = self._plan[route]
        return self._read(plan.part, histories, plan.width)

    def _read(self, name: str, histories: Histories, width: int) -> np.ndarray:
        """The first output [B, w] of a part that reads histories, some users at a time.

        Raises:
            ArtifactError: It has another shape.
        """
        part, users = self.part(name), max(1, self._steps // histories.items.shape[1])
        inputs = self._inputs(name, histories)
        found = [part(*(array[at : at + users] for array in inputs))[0] for at in range(0, len(histories), users)]
        whole = found[0] if len(found) == 1 else np.concatenate(found)
        if whole.shape != (len(histories), width):
            raise ArtifactError(f"expected {[len(histories), width]} of {name}, got {list(whole.shape)}; export again")
        return whole

    def _inputs(self, name: str, histories: Histories) -> list[np.ndarray]:
        """What a part that reads histories takes, in its order."""
        given = dict(zip(HISTORY, (histories.items, histories.lengths), strict=True)) | dict(histories.context)
        return [given[column] for column in self.exported.inputs[name]]

    def by_route(
        self, histories: Histories, routes: Sequence[Route], budget: float | None
    ) -> Iterator[tuple[np.ndarray | slice, Sequence[Route], np.ndarray]]:
        for group in grouped(routes):
            if group.rows is None:
                yield slice(None), group.routes, self.states(histories, group.route)
            else:
                yield group.rows, group.routes, self.states(histories.rows(group.rows), group.route)

    def layout(self, route: Route) -> Layout | None:
        return self._layouts.get(route)

    def slides(self, route: Route) -> bool:
        return self._plan[route].slides

    def remember(self, histories: Histories, route: Route) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        name = self._plan[route].remember
        states, *rows = self.part(name)(*self._inputs(name, histories))
        return states, rows

    def step(
        self, ids: np.ndarray, at: np.ndarray, read: Sequence[np.ndarray], route: Route
    ) -> tuple[np.ndarray, np.ndarray]:
        states, rows = self.part(self._plan[route].step)(ids, at, *read)
        return states, rows

    def best(
        self,
        states: np.ndarray,
        k: int,
        exclude: np.ndarray | None,
        allowed: np.ndarray | None,
        added: Added | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        scored = self._scored(states.shape[1], allowed)
        few = scored.users or len(states)
        found = []
        with np.errstate(all="ignore"):  # scores that are no numbers are refused by `Engine`
            for start in range(0, len(states), few):
                some = slice(start, start + few) if few < len(states) else slice(None)
                gone = None if exclude is None else exclude[some]
                more = None if added is None else added.rows(some)
                found.append(self._best(scored, states[some], k, gone, allowed, more))
        ids, best = zip(*found, strict=True)
        return np.concatenate(ids), np.concatenate(best)

    def _best(
        self,
        scored: _Scored,
        states: np.ndarray,
        k: int,
        exclude: np.ndarray | None,
        allowed: np.ndarray | None,
        added: Added | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        columns = scored.columns
        tile = columns * len(states) if scored.users else SCORES_HELD
        several = columns * len(states) > tile
        gone = None if exclude is None else _Cells.of(exclude, allowed, several)
        more = None if added is None else _Cells.of(added.ids, allowed, several, added.values)

        def change(scores: np.ndarray, places: slice) -> None:
            flat, width = scores.reshape(-1), scores.shape[1]
            if more is not None:
                at, values = more.within(places, width)
                flat[at] += values  # entries of an item are equal: whichever is last is right
            if gone is not None:
                flat[gone.within(places, width)[0]] = -np.inf

        at, best = best_columns(scored.score, states, columns, min(k, columns), change, tile)
        ids = at + 1 if allowed is None else allowed[at] if len(allowed) else at
        if exclude is not None:
            ids[best == -np.inf] = PAD
        return ids, best

    def added(self, histories: Histories, route: Route = FULL) -> Added | None:
        return None if self._evidence is None else self._evidence.on(route).added(histories)

    def evidence(self) -> EvidenceTable | None:
        return self._evidence

    def _by_scores(self, states: np.ndarray) -> np.ndarray:
        """Scores [B, N] of all items by the part that gives them, for a few states."""
        missing = self.exported.channels - states.shape[1]
        return self.part(self.exported.scores)(np.pad(states, ((0, 0), (0, missing))))[0]

    def _scored(self, width: int, allowed: np.ndarray | None) -> _Scored:
        """What is scored, and how."""
        if not width and self._prior is not None:
            return _alike(self._prior if allowed is None else self._prior[allowed - 1])
        if self._matrix is not None:
            return _products(self._matrix[1:] if allowed is None else self._matrix[allowed], width)
        if self._coded is None:
            return self._by_part(allowed)
        if allowed is None:
            return _Scored(self._coded.num_items, self._coded.score)
        return _products(self._coded.vectors(allowed), width)

    def _by_part(self, allowed: np.ndarray | None) -> _Scored:
        def score(states: np.ndarray, places: slice, out: np.ndarray) -> None:
            found = self._by_scores(states)
            out[:] = found if allowed is None else found[:, allowed - 1]

        return _Scored(self.num_items if allowed is None else len(allowed), score, _SCORED_AT_ONCE)


class _Scored(NamedTuple):
    """Columns and what scores them: any slice of them for all users, or all of them for at most so many ``users``."""

    columns: int
    score: Score
    users: int = 0


def _alike(scores: np.ndarray) -> _Scored:
    """Scores [M] that are the same for all users."""

    def write(states: np.ndarray, places: slice, out: np.ndarray) -> None:
        out[:] = scores[places]

    return _Scored(len(scores), write)


def _products(rows: np.ndarray, width: int) -> _Scored:
    """Scores by the first channels of item vectors [M, D]."""
    columns = rows[:, :width].T

    def product(states: np.ndarray, places: slice, out: np.ndarray) -> None:
        np.matmul(states, columns[:, places], out=out)

    return _Scored(len(rows), product)


class _Cells(NamedTuple):
    """Some of the scores [B, K] of what is scored.

    Attributes:
        rows: int64 [E]; empty for one user.
        columns: int64 [E].
        values: float32 [E], what is added there; empty where nothing is.
        ordered: Whether they are sorted by column.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    ordered: bool

    @classmethod
    def of(cls, ids: np.ndarray, allowed: np.ndarray | None, ordered: bool, values: np.ndarray | None = None) -> _Cells:
        """Those of ``ids`` int64 [B, S] (padded with 0) among the allowed ones, with ``values`` [B, S]."""
        at = np.flatnonzero(ids)
        columns = ids.reshape(-1)[at]
        if allowed is None:
            columns -= 1
        else:
            places = np.searchsorted(allowed, columns)
            inside = places < len(allowed)
            inside[inside] = allowed[places[inside]] == columns[inside]
            at, columns = at[inside], places[inside]
        if ordered:
            small = len(columns) > _RADIX and columns.max() < 2**16
            order = np.argsort(columns.astype(np.uint16) if small else columns, kind="stable")  # radix for 16 bits
            at, columns = at[order], columns[order]
        rows = at // ids.shape[1] if len(ids) > 1 else _NONE
        return cls(rows, columns, _NONE if values is None else values.reshape(-1)[at], ordered)

    def within(self, places: slice, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Where those in a slice of columns are in flat scores [B * width] of these columns, and their values."""
        here = slice(None)
        if self.ordered:
            here = slice(*self.columns.searchsorted((places.start, places.stop)))
        at = self.columns[here] - places.start if places.start else self.columns[here]
        if len(self.rows):
            at = at + self.rows[here] * width
        return at, self.values[here]


def open_evidence(path: Path, items: int) -> EvidenceTable:
    """The table of an export that adds to scores; its header has been checked."""
    weights = read_weights(path)
    table = EvidenceTable.named(weights)
    if table.ids.size and not 0 <= table.ids.min() <= table.ids.max() <= items:
        raise ArtifactError(
            f"expected items 0 to {items} in the rows of {path}, got {table.ids.min()} to {table.ids.max()}; export again"
        )
    if not (0 <= table.pairs.reach <= MOST_NEWEST and 0 <= table.power <= 1 and 0 <= table.pairs.backward <= 1):
        raise ArtifactError(
            f"expected a distance up to {MOST_NEWEST}, and a power and a share in [0, 1], in {path}, got {table.growth.tolist()}; "
            "export again"
        )
    return table


def _coded(exported: Exported, weights: Mapping[str, np.ndarray]) -> CodedItems:
    """The items of an export that holds codes."""
    blocks = []
    for block in exported.codes:
        centroids = np.array(weights[block.centroids], np.float32)
        blocks.append((weights[block.codes], centroids * weights[block.scales] if block.scales else centroids))
    return CodedItems(blocks)


def open_export(
    path: Path | str, threads: int | None = None, warm: bool = True, expand: bool = False, trust: bool = False
) -> tuple[Engine, Exported]:
    """An engine over an export, whose every file is checked first, and its manifest.

    Args:
        path: The directory that ``leanrec export`` wrote.
        threads: See `Engine`.
        warm: Open every part now, not when the first request needs it.
        expand: See `ExportRunner`.
        trust: Open a format whose files can run any code in this process, too.

    Raises:
        ArtifactError: A file is missing, damaged, hostile or of another version, or opening the format needs ``trust``.
        ServeError: The runtime is not installed.
    """
    path = Path(path)
    exported, catalog = read_export(path)
    form = _format(path, exported.format)
    if form.runs_code and not trust:
        raise ArtifactError(
            f"expected an export that cannot run code, got the {form.name} export {path}, and opening one can run any code that "
            "is in it; if you know who made it add --trust (from Python trust=True), or export the run as "
            + " or ".join(format_names(runs_code=False))
        )
    check_export(path, exported, form)
    runner = ExportRunner(path, exported, form, expand)
    if warm:
        runner.open_all()
    flops = {Route.parse(plan.route): plan.flops for plan in exported.plan}
    return Engine(runner, catalog, flops, exported.flops_full, threads=threads), exported


def _format(path: Path, name: str) -> Format:
    try:
        return formats.get(name).build()
    except ConfigError as error:
        raise ArtifactError(
            f"cannot open the export {path}: {error}; install the package that adds this format, or export again"
        ) from error
