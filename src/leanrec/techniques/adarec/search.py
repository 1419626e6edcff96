"""The search: draw an operation for every edge, run only those, and let the loss move what is drawn.

    k_e = argmax_o (alpha_eo / tau + g_eo),  g Gumbel noise       so operation o is drawn with probability softmax(alpha / tau)_o
    edge e gives m_e op_k(x),  m_e = 1 + p_k - stop(p_k),  p = softmax(alpha / tau + g)

The factor m_e is one and passes gradients to alpha, straight through, from the operation that ran alone (Dong and Yang, GDAS,
CVPR 2019, eq. 7), so a step costs about one student. tau falls from epoch to epoch and makes the draw itself firmer. The
first epochs draw evenly, so that all operations are trained before any is judged.

That gradient says whether more of what ran would help, not whether another operation would do better, and norms hide how much there
is; with few steps it favours what has no weights to train. With ``estimator = "pair"`` a step draws two architectures a, b on one
batch, which share the teacher's answers, and alpha follows what the better one had,

    L_choice = (L_a - L_b) / 2 * (log p(a) - log p(b)),      L_a, L_b held fixed

the score function with the other draw as its baseline; a step then costs about two students.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch
from leanrec.layers.cell_stack import CellStack
from leanrec.layers.cells import Architecture, edges
from leanrec.techniques.adarec.config import AdaRecConfig
from leanrec.techniques.adarec.costs import Costs
from leanrec.techniques.adarec.distil import Answers
from leanrec.techniques.adarec.front import front
from leanrec.techniques.adarec.student import Distillation

KEY = "technique.adarec.operations"
NOISE = 1e-3
"""Of alpha at the start, so that no tie is broken by the order of the names."""


class ArchitectureSearch(Distillation):
    """The loss of a student with open cells. In training every batch draws an architecture; in eval mode the cells run the one that
    would be derived.

    Args:
        model: Its backbone, a `CellStack`, is opened.
        config: See `AdaRecConfig`.

    Raises:
        ConfigError: The search space is empty, has an unknown operation, or nothing in it fits the budgets.
    """

    cost_table: Tensor
    budget_table: Tensor

    def __init__(self, model: Recommender, config: AdaRecConfig) -> None:
        super().__init__(config)
        backbone = cast(CellStack, model.backbone)
        self.config, self.names = config, config.operations
        if len(set(self.names)) != len(self.names) or len(self.names) < 2:
            raise ConfigError(
                f"expected at least two different operations in {KEY}, got {list(self.names)}; [conv3, skip] would work"
            )
        backbone.open(self.names, KEY)
        self.groups = len(backbone.blocks) if config.per_cell else 1
        count = self.groups * len(edges(backbone.nodes))
        self.alpha = nn.Parameter(torch.randn(count * len(self.names)) * NOISE / config.pace)
        self.costs = Costs(model)
        self.budgets_of: dict[str, float] = {
            "flops": config.max_flops,
            "params": config.max_params,
            "ms": config.max_ms,
        }
        wanted = self.budgets_of | {"params": config.max_params or config.max_share}
        scarce = next((kind for kind, most in wanted.items() if most), config.cost)
        tables: dict[str, str] = {"cost_table": config.cost, "budget_table": scarce}
        for name, kind in tables.items():
            self.register_buffer(name, torch.tensor(self.costs.table(kind, self.names), dtype=torch.float64))
        self.learning, self.temperature = False, config.temperature
        self.derived: tuple[tuple[float, ...], Architecture] | None = None
        self.advance(model, 0.0)
        self._check_budgets()
        self.register_load_state_dict_post_hook(lambda module, keys: module._run_best())

    def learn_from(self, model: Recommender, teacher: Recommender | None) -> None:
        """Learn from a teacher; a budget that is a share becomes a number.

        Raises:
            ConfigError: Not even the cheapest architecture is so small.
        """
        super().learn_from(model, teacher)
        share = self.config.max_share
        if not share:
            return
        counts = {name: self.costs.params(self._everywhere(name)) for name in self.names}
        cheapest = min(counts, key=counts.__getitem__)
        table = parameters_of(model.items)
        whose = "largest architecture's" if teacher is None else "teacher's"
        whole = (
            max(counts.values()) - table if teacher is None else parameters_of(teacher) - parameters_of(teacher.items)
        )
        least = counts[cheapest] - table
        if least > share * whole:
            works = f"{math.ceil(least / whole * 1000) / 1000:g}"
            raise ConfigError(
                f"expected technique.adarec.max_share of at least {works} of the {whose} {whole:,} parameters without its item "
                f"table, what the cheapest architecture of this search space has, with {cheapest} on every edge, got {share:g}; "
                f"{works} would work, or a smaller backbone.width"
            )
        most = table + int(share * whole)
        self.budgets_of["params"] = min(self.budgets_of["params"] or most, most)
        self.derived = None

    @property
    def cells(self) -> CellStack:
        """The open backbone."""
        return cast(CellStack, self.costs.student.backbone)

    def train(self, mode: bool = True) -> ArchitectureSearch:
        """Set the mode of training; in eval mode the cells run the architecture that would be derived now."""
        super().train(mode)
        self._run_best()
        return self

    def advance(self, model: Recommender, progress: float) -> None:
        """Set whether the choice learns yet, and the temperature of the draw; see `Recommender`."""
        start, end, warm = self.config.temperature, self.config.final_temperature, self.config.warmup
        self.learning = progress >= warm
        self.temperature = start * (end / start) ** max(0.0, (progress - warm) / (1 - warm))

    def logits(self) -> Tensor:
        """alpha [E, O] of the edges that are searched."""
        return (self.alpha * self.config.pace).view(-1, len(self.names))

    def draw(self) -> tuple[Architecture, list[Tensor], Tensor]:
        """An architecture at random, the factor of each of its edges, and its log-probability."""
        logits = self.logits() / self.temperature
        if not self.learning:
            logits = torch.zeros_like(logits)
        noisy = logits - torch.empty_like(logits).exponential_().log()
        chosen = noisy.argmax(-1)
        p = noisy.softmax(-1).gather(-1, chosen[:, None]).squeeze(-1)
        log_p = logits.log_softmax(-1).gather(-1, chosen[:, None]).sum()
        return tuple(self.names[i] for i in chosen.tolist()), list(1 + p - p.detach()), log_p

    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        """The terms of a drawn architecture, or the means of those of two, and the expected cost."""
        batch = model.backbone.examples(batch)
        answers = self.ask(batch)
        if self.config.estimator == "gumbel":
            architecture, marks, _ = self.draw()
            terms = self._of(architecture, model, batch, answers, marks if self.learning else None)
        else:
            terms = self._of_two(model, batch, answers)
        if self.config.cost_weight and self.learning:
            terms["cost"] = self.config.cost_weight * self.expected_cost()
        return terms

    def _of_two(self, model: Recommender, batch: Batch, answers: Answers | None) -> dict[str, Tensor]:
        """The mean terms of two drawn architectures, and L_choice."""
        (one, _, log_p), (other, _, log_q) = self.draw(), self.draw()
        first, second = self._of(one, model, batch, answers), self._of(other, model, batch, answers)
        terms = {name: (first[name] + second[name]) / 2 for name in first}
        if self.learning:
            lead = torch.stack(list(first.values())).sum() - torch.stack(list(second.values())).sum()
            terms["choice"] = lead.detach() / 2 * (log_p - log_q)
        return terms

    def _of(
        self,
        architecture: Architecture,
        model: Recommender,
        batch: Batch,
        answers: Answers | None,
        marks: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms of an architecture; gradients of its choice pass through ``marks``."""
        per_cell = len(edges(self.cells.nodes))
        for i, (cell, names) in enumerate(zip(self.cells.cells(), self.cells.of_cells(architecture), strict=True)):
            first = i * per_cell if self.groups > 1 else 0
            cell.choose(names, None if marks is None else marks[first : first + per_cell])
        try:
            return self.held_against(model, batch, answers)
        finally:
            self.cells.choose(architecture)

    def expected_cost(self) -> Tensor:
        """Mean cost of a drawn operation, as a share of the dearest one's."""
        share = (self.cost_table / self.cost_table.max().clamp_min(1e-12)).to(self.alpha.dtype)
        return ((self.logits() / self.temperature).softmax(-1) * share).sum(-1).mean()

    @torch.no_grad()
    def architecture(self) -> Architecture:
        """The most probable architecture within the budgets."""
        key = tuple(self.alpha.tolist())
        if self.derived is None or self.derived[0] != key:
            self.derived = key, self._best()
        return self.derived[1]

    def _run_best(self) -> None:
        """In eval mode, let the cells run it."""
        if not self.training and not self.alpha.is_meta:
            self.cells.choose(self.architecture())

    def derive(self) -> None:
        """Settle on it."""
        self.cells.settle(self.architecture())

    def _best(self) -> Architecture:
        log_p = self.logits().log_softmax(-1).double().cpu().numpy()
        if not any(self.budgets_of.values()):
            return tuple(self.names[i] for i in log_p.argmax(-1))
        ranked = list(front(log_p, self.budget_table.tolist(), self.names))
        if self.budgets_of["ms"]:  # measuring takes time, and a dearer one takes longer
            place = bisect_left(ranked, True, key=lambda found: not self.costs.excess(found, self.budgets_of))
            return ranked[min(place, len(ranked) - 1)]
        return next((found for found in ranked if not self.costs.excess(found, self.budgets_of)), ranked[-1])

    def _check_budgets(self) -> None:
        """Refuse budgets that not even the cheapest architecture meets."""
        if not any(self.budgets_of.values()):
            return
        cheapest = self.names[int(self.budget_table.argmin())]
        excess = self.costs.excess(self._everywhere(cheapest), self.budgets_of)
        for kind, cost in excess.items():
            works = f"{cost * 1.5:.3g}" if kind == "ms" else f"{cost:.0f}"  # what is measured differs from time to time
            raise ConfigError(
                f"expected technique.adarec.max_{kind} of at least {works}, what the cheapest architecture of this search "
                f"space costs, with {cheapest} on every edge, got {self.budgets_of[kind]:g}; {works} would work, or a smaller "
                "backbone.width"
            )

    def _everywhere(self, name: str) -> Architecture:
        """The architecture with one operation on every edge."""
        return (name,) * len(edges(self.cells.nodes))


def parameters_of(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())
