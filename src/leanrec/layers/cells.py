"""Cells: small graphs of operations, as differentiable architecture search uses them (arXiv 2107.07173; DARTS, ICLR 2019).

    node_i = sum over s < i of op_{s,i}(relu(source_s)),   source_0 = x, source_s = node_s
    y = x + dropout(relu(Norm(sum_i a_i node_i))),         a = softmax of one learned number a node

A cell of n nodes has n (n + 1) / 2 edges, ordered by the node they end in, then by their source. An architecture names the
operation of every edge. While it is searched a cell is open: it holds every candidate of every edge, running one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.backbone import Block
from leanrec.core.context import Context, Steps
from leanrec.core.dropout import dropout
from leanrec.core.types import Memory
from leanrec.layers.elastic import ElasticNorm
from leanrec.layers.gates import ReZero
from leanrec.layers.operations import EPS, NONE, Operation, operation, zeros
from leanrec.layers.taps import union

Architecture = tuple[str, ...]


def edges(nodes: int) -> list[tuple[int, int]]:
    """Source and node of every edge; 0 is the cell's input, nodes count from 1."""
    return [(source, node) for node in range(1, nodes + 1) for source in range(node)]


def live(architecture: Architecture, nodes: int) -> Architecture:
    """The architecture with `NONE` on every edge from a node that has no input: such an edge would carry a constant only."""
    found = list(architecture)
    fed = [True] + [False] * nodes
    for edge, (source, node) in enumerate(edges(nodes)):
        if not fed[source]:
            found[edge] = NONE
        fed[node] = fed[node] or found[edge] != NONE
    return tuple(found)


class Cell(Block):
    """One cell.

    Args:
        width: Channels D.
        nodes: Its nodes.
        architecture: The operation of every edge.
        heads: Of attention.
        drop: Dropout on the branch.
        where: The configuration key of the architecture, for messages.
        rezero: Multiply the branch by a learned scalar that starts at zero.

    Attributes:
        chosen: The operations that run.
        marks: While it is searched, a factor of value one for every edge, through which gradients reach the choice.

    Raises:
        ConfigError: An operation is unknown.
    """

    def __init__(
        self,
        width: int,
        nodes: int,
        architecture: Architecture,
        heads: int,
        drop: float,
        where: str,
        rezero: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.nodes, self.heads, self.dropout = width, nodes, heads, drop
        self.wires = edges(nodes)
        architecture = live(architecture, nodes)
        self.operations = nn.ModuleList()
        self.mix = nn.Parameter(torch.randn(nodes) * 0.01) if nodes > 1 else None
        self.norm = ElasticNorm(width, EPS)
        self.scale = ReZero() if rezero else nn.Identity()
        self.chosen: Architecture = architecture
        self.marks: Sequence[Tensor] | None = None
        self._candidates([(name,) for name in architecture], where)

    def open(self, candidates: Sequence[str], where: str) -> None:
        """Put a new operation of each of these names on every edge, to choose from."""
        self._candidates([tuple(candidates)] * len(self.wires), where)

    def settle(self, architecture: Architecture) -> None:
        """Keep one operation an edge, and drop the others."""
        self.choose(architecture)
        for held, name in zip(self.operations, self.chosen, strict=True):
            assert isinstance(held, nn.ModuleDict)
            for other in [other for other in held if other != name]:
                del held[other]
            if name == NONE:
                held[NONE] = operation(NONE, self.width, self.heads, "")

    def choose(self, architecture: Architecture, marks: Sequence[Tensor] | None = None) -> None:
        """Set the operation that runs on every edge."""
        architecture = live(architecture, self.nodes)
        if architecture != self.chosen:
            self._plans.clear()
        self.chosen, self.marks = architecture, marks

    def candidates(self, edge: int) -> dict[str, Operation]:
        """The operations that an edge holds, by name."""
        return dict(self.operations[edge].items())  # pyright: ignore[reportCallIssue, reportReturnType]

    def layers(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The layers of all operations, by edge."""
        return tuple(layer for edge in range(len(self.wires)) for layer in self._running(edge).layers())

    def needs(self, want: Steps, steps: int) -> Steps:
        """What any path to the wanted steps reads."""
        return self._plan(want, steps)[0]

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        haves = [have, *self._plan(want, ctx.reach or ctx.steps)[1:]]

        def run(edge: int, source: Tensor) -> Tensor:
            y = self._running(edge)(source, ctx, *(haves[end] for end in self.wires[edge]))
            return y if self.marks is None else y * self.marks[edge]

        nodes = self._nodes(x, run, lambda node: zeros(x, ctx, haves[node]))
        nodes = [ctx.restrict(node, at, want) for node, at in zip(nodes, haves[1:], strict=True)]
        return ctx.restrict(x, have, want) + self._branch(nodes, ctx.channels)

    def memories(self) -> tuple[Memory, ...]:
        """Those of every operation that runs."""
        return tuple(memory for edge in self._live() for memory in self._running(edge).memories)

    def rows(self, x: Tensor, ctx: Context) -> tuple[Tensor, ...]:
        rows: list[Tensor] = []

        def run(edge: int, source: Tensor) -> Tensor:
            operation = self._running(edge)
            rows.extend(operation.rows(source))
            return operation(source, ctx, None, None)

        self._nodes(x, run, lambda node: torch.zeros_like(x))
        return tuple(rows)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        rows: list[Tensor] = []

        def run(edge: int, source: Tensor) -> Tensor:
            operation, taken = self._running(edge), len(rows)
            y, new = operation.step(source, read[taken : taken + len(operation.memories)], at)
            rows.extend(new)
            return y

        nodes = self._nodes(x, run, lambda node: torch.zeros_like(x))
        return x + self._branch(nodes, None), tuple(rows)

    def _nodes(self, x: Tensor, run: Callable[[int, Tensor], Tensor], empty: Callable[[int], Tensor]) -> list[Tensor]:
        """What every node holds, from the cell's input.

        Args:
            x: The input.
            run: An edge, by its number, on the rectified state of its source; called in the order of the edges.
            empty: What a node without edges holds.
        """
        sources, nodes = [F.relu(x)], []
        for node in range(1, self.nodes + 1):
            parts = [run(edge, sources[self.wires[edge][0]]) for edge in self._live() if self.wires[edge][1] == node]
            nodes.append(reduce(torch.add, parts) if parts else empty(node))
            sources.append(F.relu(nodes[-1]))
        return nodes

    def _branch(self, nodes: Sequence[Tensor], channels: Tensor | None) -> Tensor:
        """What is added to the input, from all nodes at the same steps."""
        weighted = nodes if self.mix is None else [y * a for y, a in zip(nodes, self.mix.softmax(0), strict=True)]
        y = reduce(torch.add, weighted)
        return self.scale(dropout(F.relu(self.norm(y, channels)), self.dropout, self.training))

    def _live(self) -> list[int]:
        """The edges that are there."""
        return [edge for edge, name in enumerate(self.chosen) if name != NONE]

    def _running(self, edge: int) -> Operation:
        return self.operations[edge][self.chosen[edge]]  # pyright: ignore[reportIndexIssue, reportReturnType]

    def _plan(self, want: Steps, steps: int) -> list[Steps]:
        """The steps at which the input and every node are needed."""
        if want is None:  # all; a graph has no number of steps to remember a plan by
            return [None] * (self.nodes + 1)
        key = (want, steps)
        if key not in self._plans:
            plan: list[Steps] = [want] * (self.nodes + 1)
            for edge in reversed(range(len(self.wires))):
                source, node = self.wires[edge]
                if self.chosen[edge] != NONE:
                    plan[source] = union([plan[source], self._running(edge).needs(plan[node], steps)])
            self._plans[key] = plan
        return self._plans[key]

    def _candidates(self, names: Sequence[Sequence[str]], where: str) -> None:
        self.operations = nn.ModuleList(
            nn.ModuleDict({name: operation(name, self.width, self.heads, where) for name in edge}) for edge in names
        )
        self._plans: dict[tuple[Steps, int], list[Steps]] = {}
