"""Cut a recommender into parts and trace each as one graph for any number of users and steps.

The parts are an encoder per route, the router, and the scores of items where neither a matrix nor codes give them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from leanrec.artifact.exported import HISTORY, STATES, STEP
from leanrec.core import stepping
from leanrec.core.errors import ArtifactError
from leanrec.core.recommender import Recommender
from leanrec.core.types import NO_NETWORK, Batch, Route

ROUTER, SCORES = "router", "scores"
TRACED = (3, 3)
"""Users and most steps of the inputs that a graph is traced with. Sizes of 0 and 1 would become constants."""
_SPAN = 10**8
"""Seconds, three years, within which events happen for such inputs."""

Draw = Callable[[int, int, np.random.Generator], tuple[Tensor, ...]]
"""From numbers of users B and of steps T, and a random generator, to inputs of a part."""


@dataclass(frozen=True, eq=False)
class ModelPart:
    """What becomes one graph.

    Attributes:
        name: Of its file, without the ending.
        route: Of an encoder; None for other parts.
        module: What it computes.
        inputs: Names of its inputs, in order.
        outputs: Names of its outputs, in order.
        draw: Makes random inputs, to trace it and to compare its graph with it.
    """

    name: str
    route: Route | None
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    draw: Draw


class _OnRoute(nn.Module):
    """A model on one route."""

    def __init__(self, model: Recommender, route: Route) -> None:
        super().__init__()
        self.model, self.route = model, route


class Encoder(_OnRoute):
    """Histories to states [B, e]; the inputs are those of `_batch`."""

    def forward(self, items: Tensor, lengths: Tensor, *context: Tensor) -> Tensor:
        return self.model.represent(_batch(self.model, items, lengths, context), self.route)


class RouteScores(nn.Module):
    """Histories to scores [B, K] of the routes; the inputs are those of `_batch`."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Tensor, lengths: Tensor, *context: Tensor) -> Tensor:
        scores = self.model.decide(_batch(self.model, items, lengths, context))
        if scores is None:
            raise ValueError("a model with one route has no router")
        return scores


class ItemScores(nn.Module):
    """States [B, D] to scores [B, N]."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, states: Tensor) -> Tensor:
        return self.model.items.score(states)


class Remember(_OnRoute):
    """Histories int64 [B, T] and their lengths int64 [B] to states [B, e] and the rows [B, T, w] of every memory."""

    def forward(self, items: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        states, rows = stepping.remember(self.model.backbone, Batch(items, lengths), self.route)
        return states, *rows


class Step(_OnRoute):
    """The newest items int64 [B], their steps int64 [B] and what is read of memories to states [B, e] and rows [B, M * w]."""

    def forward(self, ids: Tensor, at: Tensor, *read: Tensor) -> tuple[Tensor, Tensor]:
        return stepping.step(self.model.backbone, ids, at, read, self.route)


def parts(model: Recommender, sessions: bool = False) -> Iterator[ModelPart]:
    """The parts of a model in eval mode; with ``sessions`` also those for single steps, on routes that have them."""
    histories, history = partial(_histories, model), (*HISTORY, *sorted(model.reads))
    routes = model.all_routes()
    if len(routes) > 1:
        yield ModelPart(ROUTER, None, RouteScores(model), history, ("scores",), histories)
    if model.items.matrix is None and not model.items.coded:
        yield ModelPart(SCORES, None, ItemScores(model), STATES, ("scores",), partial(_states, model))
    for route in routes:
        if route == NO_NETWORK:
            continue
        yield ModelPart(f"encoder-{route}", route, Encoder(model, route), history, ("states",), histories)
        memories = stepping.memories(model.backbone, route) if sessions else None
        if memories is None:
            continue
        rows = tuple(f"row{i}" for i in range(len(memories)))
        yield ModelPart(f"remember-{route}", route, Remember(model, route), HISTORY, ("states", *rows), histories)
        read = tuple(f"read{i}" for i in range(len(_read_shapes(model, route))))
        draw = partial(_steps, model, route)
        yield ModelPart(f"step-{route}", route, Step(model, route), (*STEP, *read), ("states", "rows"), draw)


def _batch(model: Recommender, items: Tensor, lengths: Tensor, context: Sequence[Tensor]) -> Batch:
    """Histories int64 [B, T], their lengths int64 [B], and int64 [B, T] of what else the model reads, in the order of its names."""
    return Batch(items, lengths, context=dict(zip(sorted(model.reads), context, strict=True)))


def frozen(model: Recommender) -> Recommender:
    """A copy in float32 on the CPU, in eval mode, whose weights need no gradients."""
    return copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)


def traced(part: ModelPart, model: Recommender) -> ExportedProgram:
    """The graph of a part, for any B and T.

    Raises:
        ArtifactError: The part cannot be traced.
    """
    users, steps = TRACED[0], min(TRACED[1], model.backbone.max_length)
    example, other = (
        part.draw(b, t, np.random.default_rng(0)) for b, t in ((users, steps), (users + 1, max(1, steps - 1)))
    )
    # an axis whose size depends on users or steps is free
    axes: list[Any] = [
        {axis: Dim.DYNAMIC for axis in range(one.ndim) if one.shape[axis] != two.shape[axis]}
        for one, two in zip(example, other, strict=True)
    ]
    shapes = (*axes[:2], tuple(axes[2:])) if len(axes) > 2 else tuple(axes)  # modules take further inputs as *arguments
    try:
        with torch.no_grad():
            return export(part.module, example, dynamic_shapes=shapes)
    except Exception as error:  # whatever a tracer may raise: the model cannot be written as a graph
        raise ArtifactError(
            f"expected {part.name} to be one graph for all numbers of users and steps, got {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}; serve the run itself, or report this"
        ) from error


def _histories(model: Recommender, users: int, steps: int, generator: np.random.Generator) -> tuple[Tensor, ...]:
    lengths = generator.integers(1, steps + 1, users)
    lengths[0] = steps
    items = generator.integers(1, model.items.num_items + 1, (users, steps))
    padding = np.arange(steps) >= lengths[:, None]
    items[padding] = 0
    context = [
        generator.integers(0, _SPAN, (users, steps)) for _ in model.reads
    ]  # in any order, as a log may have them
    for column in context:
        column[padding] = 0
    return torch.from_numpy(items), torch.from_numpy(lengths), *map(torch.from_numpy, context)


def _states(model: Recommender, users: int, steps: int, generator: np.random.Generator) -> tuple[Tensor, ...]:
    return (torch.from_numpy(generator.standard_normal((users, model.items.dim), np.float32)),)


def _steps(
    model: Recommender, route: Route, users: int, steps: int, generator: np.random.Generator
) -> tuple[Tensor, ...]:
    items, lengths, *_ = _histories(model, users, steps, generator)
    read = (generator.standard_normal((users, *shape), np.float32) for shape in _read_shapes(model, route))
    return items[:, 0], lengths - 1, *map(torch.from_numpy, read)


def _read_shapes(model: Recommender, route: Route) -> list[tuple[int, ...]]:
    """Shapes, without that of users, of what a step reads of memories: all windows in one array, then each whole memory."""
    width = route.width or model.backbone.width
    memories = stepping.memories(model.backbone, route) or ()
    near = sum(len(memory.back) for memory in memories)
    whole = [(m.heads, model.backbone.max_length, width // m.heads) for m in memories if not m.back]
    return [(near * width,)] * (near > 0) + whole
