"""Run an export: parts and a plan from routes to parts. Needs NumPy and the runtime of its format."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from leanrec.artifact.exported import ROUTING, WEIGHTS, Exported, read_export
from leanrec.core.errors import ArtifactError
from leanrec.core.plain import PAD, Route
from leanrec.core.pricing import Pricing
from leanrec.serve.codes import CodedItems
from leanrec.serve.engine import Engine
from leanrec.serve.memories import Layout
from leanrec.serve.parts import Graph, mapped, opener
from leanrec.serve.scoring import Score, best_columns

AT_ONCE = 8
"""States that a graph scores in one call: it may hold many times as many numbers as it returns."""


class ExportRunner:
    """See `serve.runner.Runner`. Parts are opened when they are first needed.

    Args:
        folder: Of the export, which has been checked.
        exported: Its manifest.
        threads: For one call; the number of cores by default.
        expand: Whether a compressed item table is written out as vectors: faster, and larger than if it had never been compressed.
    """

    def __init__(self, folder: Path, exported: Exported, threads: int | None = None, expand: bool = False) -> None:
        weights = mapped(folder / WEIGHTS)
        coded = {name for block in exported.codes for name in msgspec.structs.astuple(block)}
        needed = {*(ROUTING if exported.router else ()), exported.matrix, *coded} - {""}
        if not needed <= weights.keys():
            raise ArtifactError(
                f"expected the weight {min(needed - weights.keys())!r} in {folder / WEIGHTS}, got none; export again"
            )
        self.num_items, self.max_length = exported.data.items, exported.max_length
        self.exported, self._graphs, self._lock = exported, dict[str, Graph](), threading.Lock()
        self._open = opener(folder, exported.format, threads or cores(), expand)
        self._plan = {Route.parse(plan.route): plan for plan in exported.plan}
        self._layouts = {
            route: Layout(plan.memories, self.max_length) for route, plan in self._plan.items() if plan.step
        }
        self._only = next(iter(self._plan)) if len(self._plan) == 1 else None
        self._matrix = weights[exported.matrix] if exported.matrix else None
        self._coded = _coded(exported, weights) if exported.codes else None
        if self._coded is not None and expand:
            self._matrix, self._coded = self._coded.matrix(), None
        self.pricing = None
        if exported.router:
            costs, budgets, prices = (np.array(weights[name]) for name in ROUTING)
            self.pricing = Pricing(tuple(self._plan), costs, budgets, prices, exported.usual)

    def graph(self, part: str) -> Graph:
        """A part, opened once."""
        if part not in self._graphs:
            with self._lock:
                if part not in self._graphs:
                    self._graphs[part] = self._open(part)
        return self._graphs[part]

    def open_all(self) -> None:
        """Open every part, so that no request waits for it."""
        graphs = {name for plan in self._plan.values() for name in (plan.part, plan.remember, plan.step)}
        for part in {*graphs, self.exported.router, self.exported.scores} - {""}:
            self.graph(part)

    def routes(self, items: np.ndarray, lengths: np.ndarray, budget: float | None) -> Sequence[Route]:
        """See `Runner.routes`."""
        if self.pricing is None:
            return [self._only or Route()] * len(items)
        return self.pricing.choose(self.graph(self.exported.router)(items, lengths)[0], lengths, budget)

    def states(self, items: np.ndarray, lengths: np.ndarray, route: Route) -> np.ndarray:
        """See `Runner.states`."""
        return self.graph(self._plan[route].part)(items, lengths)[0]

    def mixed(self, items: np.ndarray, lengths: np.ndarray, routes: Sequence[Route]) -> None:
        """See `Runner.mixed`: a graph per route is always faster."""
        return

    def layout(self, route: Route) -> Layout | None:
        """See `StepRunner.layout`."""
        return self._layouts.get(route)

    def slides(self, route: Route) -> bool:
        """See `StepRunner.slides`."""
        return self._plan[route].slides

    def remember(self, items: np.ndarray, lengths: np.ndarray, route: Route) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        """See `StepRunner.remember`."""
        states, *rows = self.graph(self._plan[route].remember)(items, lengths)
        return states, rows

    def step(
        self, ids: np.ndarray, at: np.ndarray, read: Sequence[np.ndarray], route: Route
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `StepRunner.step`."""
        states, rows = self.graph(self._plan[route].step)(ids, at, *read)
        return states, rows

    def best(
        self, states: np.ndarray, k: int, exclude: np.ndarray | None, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Runner.best`."""
        shift = 0 if self._matrix is not None else 1  # the first column of a matrix is that of padding
        columns, score = self._scorer(states, allowed)

        def out_of_reach(scores: np.ndarray, rows: slice) -> None:
            if allowed is None and not shift:
                scores[:, PAD] = -np.inf
            if exclude is not None:
                _leave_out(scores, exclude[rows], allowed, shift)

        at, best = best_columns(score, states, columns, min(k, columns), out_of_reach)
        ids = at + shift if allowed is None else allowed[at] if len(allowed) else at
        if exclude is not None:
            ids[best == -np.inf] = PAD
        return ids, best

    def _scorer(self, states: np.ndarray, allowed: np.ndarray | None) -> tuple[int, Score]:
        """How many scores there are, and what computes them."""
        if self._matrix is not None:
            return _products(self._matrix if allowed is None else self._matrix[allowed], states.shape[1])
        if self._coded is None:
            return self._graph_scorer(allowed)
        if allowed is None:
            return self._coded.num_items, self._coded.score
        return _products(self._coded.vectors(allowed), states.shape[1])

    def _graph_scorer(self, allowed: np.ndarray | None) -> tuple[int, Score]:
        graph, channels = self.graph(self.exported.scores), self.exported.channels

        def score(states: np.ndarray, out: np.ndarray) -> None:
            full = np.pad(states, ((0, 0), (0, channels - states.shape[1])))
            for start in range(0, len(full), AT_ONCE):
                found = graph(full[start : start + AT_ONCE])[0]
                out[start : start + AT_ONCE] = found if allowed is None else found[:, allowed - 1]

        return self.num_items if allowed is None else len(allowed), score


def _products(rows: np.ndarray, width: int) -> tuple[int, Score]:
    """Scores by the first channels of item vectors [M, D]."""
    columns = rows[:, :width].T

    def product(states: np.ndarray, out: np.ndarray) -> None:
        np.matmul(states, columns, out=out)

    return len(rows), product


def _coded(exported: Exported, weights: Mapping[str, np.ndarray]) -> CodedItems:
    """The items of an export that holds codes."""
    blocks = []
    for block in exported.codes:
        centroids = np.asarray(weights[block.centroids], np.float32)
        blocks.append((weights[block.codes], centroids * weights[block.scales] if block.scales else centroids))
    return CodedItems(blocks)


def _leave_out(scores: np.ndarray, gone: np.ndarray, allowed: np.ndarray | None, shift: int) -> None:
    """Scores [B, columns] of items ``gone`` [B, S] to -inf."""
    rows, at = np.nonzero(gone)
    ids = gone[rows, at]
    if allowed is not None:
        columns = np.searchsorted(allowed, ids)
        inside = columns < len(allowed)
        inside[inside] = allowed[columns[inside]] == ids[inside]
        scores[rows[inside], columns[inside]] = -np.inf
    else:
        scores[rows, ids - shift] = -np.inf


def open_export(
    path: Path | str, threads: int | None = None, warm: bool = True, expand: bool = False
) -> tuple[Engine, Exported]:
    """An engine over an export, whose every file is checked first, and its manifest.

    Args:
        path: The directory that ``leanrec export`` wrote.
        threads: For one call; the number of cores by default. A server with several workers wants 1.
        warm: Open every part now, not when the first request needs it.
        expand: See `ExportRunner`.

    Raises:
        ArtifactError: A file is missing, damaged, hostile or of another version.
        ServeError: The runtime is not installed.
    """
    path = Path(path)
    exported, catalog = read_export(path)
    runner = ExportRunner(path, exported, threads, expand)
    if warm:
        runner.open_all()
    flops = {Route.parse(plan.route): plan.flops for plan in exported.plan}
    return Engine(runner, catalog, flops, exported.flops_full), exported


def cores() -> int:
    """Cores that this process may use, or what OMP_NUM_THREADS says."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
