"""Costs of the architectures of a student whose cells are open: counted FLOPs and parameters, or measured time.

Over a whole history the costs of a student are a sum: a part that every architecture has, and a share of every edge's operation.
So a table of operations holds for all architectures (edges that start in a node without input are left out and cost nothing). The
newest step alone, as in use, needs only the cone below it, which is no sum; budgets are held against that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, blank_context
from leanrec.cost.count import Flops, on_meta
from leanrec.cost.latency import measure
from leanrec.layers.cell_stack import CellStack
from leanrec.layers.cells import Architecture, edges, live

_SECONDS = 0.15
"""Measuring time of one architecture."""
ASKED = 10
"""Items that a measured request asks for."""


class Costs:
    """Costs of architectures of an open student.

    Args:
        student: Its backbone is a `CellStack` that is open; which operations are chosen changes, its weights do not.
    """

    def __init__(self, student: Recommender) -> None:
        self.student, self.light = student, on_meta(Recommender(student.backbone, student.objective))
        body = self.light.backbone
        assert isinstance(body, CellStack)
        self.body = body
        self.edges = len(edges(body.nodes))
        self.counted: dict[Architecture, int] = {}

    def table(self, kind: str, candidates: Sequence[str]) -> list[float]:
        """Cost of every candidate on one edge of all cells, above that of the cheapest."""
        totals = [self.of(kind, (name,) * self.edges) for name in candidates]
        return [(total - min(totals)) / self.edges for total in totals]

    def of(self, kind: str, architecture: Architecture) -> float:
        """Cost of an architecture; FLOPs are those of a whole history."""
        if kind == "params":
            return self.params(architecture)
        return self.flops(architecture, last_only=False) if kind == "flops" else self.milliseconds(architecture)

    def params(self, architecture: Architecture) -> int:
        """Parameters of the student."""
        total = sum(p.numel() for p in self.light.parameters())
        for cell, names in zip(self.body.cells(), self.body.of_cells(architecture), strict=True):
            for edge, name in enumerate(live(names, cell.nodes)):
                for other, operation in cell.candidates(edge).items():
                    total -= 0 if other == name else sum(p.numel() for p in operation.parameters())
        return total

    def flops(self, architecture: Architecture, last_only: bool = True) -> int:
        """FLOPs of a request with a history of full length, head included."""
        if not last_only:
            return self._count(architecture, last_only)
        if architecture not in self.counted:
            self.counted[architecture] = self._count(architecture, last_only)
        return self.counted[architecture]

    def _count(self, architecture: Architecture, last_only: bool) -> int:
        self.body.choose(architecture)
        return Flops(self.light).request(self.body.max_length, last_only=last_only)

    def milliseconds(self, architecture: Architecture) -> float:
        """Median time of a request of one user with a history of full length."""
        body = self.student.backbone
        assert isinstance(body, CellStack)
        chosen = [cell.chosen for cell in body.cells()]
        model = Recommender(body, self.student.objective)
        training = body.training
        items = torch.arange(body.max_length, device=next(model.parameters()).device)[None] % model.items.num_items + 1
        lengths = torch.tensor([body.max_length], device=items.device)
        batch = Batch(items, lengths, context=blank_context(model.reads, items))
        body.choose(architecture)
        model.eval()
        with torch.random.fork_rng():
            timing = measure({"": lambda: _answered(model, batch)}, _SECONDS)
        body.train(training)
        body.choose(sum(chosen, ()))
        return timing[""].p50_ms

    def excess(self, architecture: Architecture, budgets: Mapping[str, float]) -> dict[str, float]:
        """What an architecture costs of the kinds whose budgets it breaks; budgets of 0 are none."""
        count: dict[str, Callable[[Architecture], float]]
        count = {"flops": self.flops, "params": self.params, "ms": self.milliseconds}
        found = {kind: float(count[kind](architecture)) for kind, most in budgets.items() if most}
        return {kind: cost for kind, cost in found.items() if cost > budgets[kind]}


@torch.inference_mode()
def _answered(model: Recommender, batch: Batch) -> int:
    """Represent histories and rank the items, as an engine does; the number of answers."""
    return len(model.items.top_k(model.represent(batch), min(ASKED, model.items.num_items))[0])
