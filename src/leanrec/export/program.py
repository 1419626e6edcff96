"""The parts of a recommender as graphs: an encoder per route, the router, and scores where neither a matrix nor codes give them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from leanrec.core import stepping
from leanrec.core.errors import ArtifactError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Route

ROUTER, SCORES = "router", "scores"
EXAMPLE = ((3, 5, 2), (2, 1, 0), (4, 3, 1))
"""Item ids, two and more users and steps, from which a graph is traced; ids above N are cut."""


@dataclass(frozen=True)
class Part:
    """One graph.

    Attributes:
        name: Of its file, without the ending.
        route: For an encoder.
        module: What it computes, from ``inputs``.
        inputs: Names of its inputs: "items" and "lengths", "states", or "ids", "at" and what is read of memories.
        output: Name of its first output.
        more: Names of the others.
    """

    name: str
    route: Route | None
    module: nn.Module
    inputs: tuple[str, ...]
    output: str
    more: tuple[str, ...] = ()


class Encoder(nn.Module):
    """Histories int64 [B, T] and their lengths int64 [B] to states [B, e]."""

    def __init__(self, model: Recommender, route: Route) -> None:
        super().__init__()
        self.model, self.route = model, route

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """See the class."""
        return self.model.represent(Batch(items, lengths), self.route)


class Router(nn.Module):
    """Histories int64 [B, T] and their lengths int64 [B] to scores [B, K] of the routes."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """See the class."""
        scores = self.model.decide(Batch(items, lengths))
        if scores is None:
            raise ValueError("a model with one route has no router")
        return scores


class Scores(nn.Module):
    """States [B, D] to scores [B, N]."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, states: Tensor) -> Tensor:
        """See the class."""
        return self.model.items.score(states)


class Remember(nn.Module):
    """Histories int64 [B, T] and their lengths int64 [B] to states [B, e] and the rows [B, T, w] of every memory."""

    def __init__(self, model: Recommender, route: Route) -> None:
        super().__init__()
        self.model, self.route = model, route

    def forward(self, items: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        states, rows = stepping.remember(self.model.backbone, Batch(items, lengths), self.route)
        return states, *rows


class Step(nn.Module):
    """The newest items int64 [B], their steps int64 [B] and what is read of memories to states [B, e] and rows [B, M * w]."""

    def __init__(self, model: Recommender, route: Route) -> None:
        super().__init__()
        self.model, self.route = model, route

    def forward(self, ids: Tensor, at: Tensor, *read: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return stepping.step(self.model.backbone, ids, at, read, self.route)


def parts(model: Recommender, sessions: bool = False) -> Iterator[Part]:
    """The parts of a model in eval mode; with ``sessions`` also those that take single steps, on routes that can."""
    history = ("items", "lengths")
    routes = model.all_routes()
    if len(routes) > 1:
        yield Part(ROUTER, None, Router(model), history, "scores")
    if model.items.matrix is None and not model.items.coded:
        yield Part(SCORES, None, Scores(model), ("states",), "scores")
    for route in routes:
        yield Part(f"encoder-{route}", route, Encoder(model, route), history, "states")
        memories = stepping.memories(model.backbone, route) if sessions else None
        if memories is not None:
            rows = tuple(f"row{i}" for i in range(len(memories)))
            read = tuple(f"read{i}" for i in range(len(blank(model, route, 1))))
            yield Part(f"remember-{route}", route, Remember(model, route), history, "states", rows)
            yield Part(f"step-{route}", route, Step(model, route), ("ids", "at", *read), "states", ("rows",))


def blank(model: Recommender, route: Route, users: int) -> list[Tensor]:
    """What a step of a route reads before the first event."""
    width = route.width or model.backbone.width
    memories = stepping.memories(model.backbone, route) or ()
    near = sum(len(memory.back) for memory in memories)
    return [torch.zeros(users, near * width)] * (near > 0) + [
        torch.zeros(users, memory.heads, model.backbone.max_length, width // memory.heads)
        for memory in memories
        if not memory.back
    ]


def frozen(model: Recommender) -> Recommender:
    """A copy in float32 on the CPU, in eval mode, whose weights need no gradients."""
    return copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)


def traced(part: Part, model: Recommender) -> ExportedProgram:
    """The graph of a part, for any B and T.

    Raises:
        ArtifactError: The part cannot be traced.
    """
    shapes: Any
    if part.inputs == ("states",):
        example: tuple[Tensor, ...] = (torch.zeros(3, model.items.dim),)
        shapes = ({0: Dim.DYNAMIC},)
    elif part.inputs[0] == "ids":
        at = torch.tensor([2, 1, 0]).clamp(max=model.backbone.max_length - 1)
        example = (torch.ones(3, dtype=torch.int64), at, *blank(model, part.route or Route(), 3))
        shapes = ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC}, tuple({0: Dim.DYNAMIC} for _ in example[2:]))
    else:
        items = torch.tensor(EXAMPLE)[:, : model.backbone.max_length].clamp(max=model.items.num_items)
        example = (items, (items > 0).sum(1))
        shapes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
        if model.backbone.max_length == 1:
            shapes = ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    try:
        with torch.no_grad():
            return export(part.module, example, dynamic_shapes=shapes)
    except Exception as error:  # whatever a tracer may raise: the model cannot be written as a graph
        raise ArtifactError(
            f"expected {part.name} to be one graph for all numbers of users and steps, got {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}; serve the run itself, or report this"
        ) from error
