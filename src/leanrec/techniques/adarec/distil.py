"""Compare a student with its teacher, token by token: item vectors, states after every block, probabilities of the next item.

Only steps that have a target count; padding has none. All terms are means over these M tokens.

    L_emb = |A s - t|^2 / |t|^2                      item vectors of the tokens, A a learned map to the teacher's channels
    L_hid = sum_ij F_ij D_ij                         D_ij = KL of softmax over channels of (teacher block j, H student block i)
    F     = the cheapest flow from student blocks to teacher blocks with weights w^S, w^T (Earth Mover's Distance)
    L_log = KL of next-item probabilities            teacher over the catalogue, or over a few items

Earth Mover's Distance and the weights w are in `transport`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.backbone import Backbone, ItemTable
from leanrec.core.errors import ConfigError
from leanrec.core.ranges import Amount, Share, Whole
from leanrec.core.recommender import Recommender
from leanrec.core.types import PAD, Batch, Hidden
from leanrec.items.softmax import soft_targets_loss
from leanrec.routing.sandwich import among
from leanrec.techniques.adarec.transport import cheapest_flow, flow_solver, reweighted


class DistilOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is distilled, and how.

    Attributes:
        distil: Share of the teacher's terms in the loss; 0 needs no teacher.
        embedding: Weight of L_emb among them.
        hidden: Weight of L_hid, the distance of hidden states.
        logits: Weight of L_log, the distance of next-item probabilities.
        mapping: Which blocks are compared: "emd" many to many by Earth Mover's Distance, "fixed" every student block with the
            teacher's at the same share of the depth.
        adaptive: Let the layer weights of "emd" follow the flow; otherwise they stay even.
        direction: Whose side the expectation of the divergences is on: the "teacher"'s, or the "student"'s, as in the published
            code.
        candidates: Items over which L_log compares, drawn from the batch's targets; 0 for the whole catalogue.
    """

    distil: Share = 0.5
    embedding: Amount = 1.0
    hidden: Amount = 1.0
    logits: Amount = 1.0
    mapping: Literal["emd", "fixed"] = "emd"
    adaptive: bool = True
    direction: Literal["teacher", "student"] = "teacher"
    candidates: Whole = 0


class Answers(NamedTuple):
    """The outputs of a teacher for a batch.

    Attributes:
        ours: int64 [M], where the M tokens stand in the student's flat states [B T, .].
        ids: int64 [M], their items.
        targets: int64 [M], the items wanted of them.
        states: [M, w], the teacher's.
        known: The teacher's after every block; None where they are not compared.
    """

    ours: Tensor
    ids: Tensor
    targets: Tensor
    states: Tensor
    known: Known | None


class Known(NamedTuple):
    """States of L' blocks for M tokens as distributions over C channels, computed once however often they are compared.

    Attributes:
        table: [L', M C], probabilities if the expectation is on their side, otherwise their logarithms.
        own: [L'], sums of p log p; None if the expectation is on the other side.
    """

    table: Tensor
    own: Tensor | None


class Held:
    """A model outside the module tree: no parameter of it is saved, counted, moved or copied."""

    def __init__(self, model: Recommender) -> None:
        self.model = model

    def __deepcopy__(self, memo: dict[int, Any]) -> Held:
        return self


class Distiller(nn.Module):
    """The teacher's terms of the loss.

    Args:
        student: Gives the sizes.
        teacher: A trained model on the same items.
        options: See `DistilOptions`.

    Raises:
        ConfigError: The teacher reads shorter histories than the student, or a package is missing.
    """

    student_weights: Tensor
    teacher_weights: Tensor

    def __init__(self, student: Backbone, teacher: Recommender, options: DistilOptions) -> None:
        super().__init__()
        longest, reads = student.max_length, teacher.backbone.max_length
        if reads < longest:
            raise ConfigError(
                f"expected a train.teacher that reads backbone.max_length = {longest} events, got one that reads {reads}; "
                f"backbone.max_length={reads} would work"
            )
        if options.mapping == "emd" and options.hidden:
            flow_solver()
        device = next(student.parameters()).device
        self.options = options
        self.held = Held(teacher.to(device).eval().requires_grad_(False))
        self.embedding = nn.Linear(student.items.dim, teacher.items.dim)
        self.hidden = nn.Linear(student.width, teacher.backbone.width)
        ours, theirs = len(student.blocks), len(teacher.backbone.blocks)
        self.register_buffer("student_weights", torch.full((ours,), 1 / ours, dtype=torch.float64))
        self.register_buffer("teacher_weights", torch.full((theirs,), 1 / theirs, dtype=torch.float64))
        self.to(device)

    @property
    def teacher(self) -> Recommender:
        """The model that is learned from."""
        return self.held.model

    def terms(self, student: Recommender, hidden: Hidden, answers: Answers) -> dict[str, Tensor]:
        """Named terms, not yet weighted by ``distil``.

        Args:
            student: Whose tables are compared.
            hidden: The student's states [B, T, .] of a batch of training examples, with all layers.
            answers: The teacher's to the same batch.
        """
        options, found = self.options, {}
        if options.embedding:
            found["embedding"] = options.embedding * self._embedding(student.backbone, answers.ids)
        if answers.known is not None:
            layers = torch.stack([picked(layer, answers.ours) for layer in hidden.layers])
            found["hidden"] = options.hidden * self._hidden(layers, answers.known)
        if options.logits:
            states = picked(hidden.states, answers.ours)
            found["logits"] = options.logits * self._logits(student.items, states, answers.states, answers.targets)
        return found

    @torch.no_grad()
    def ask(self, batch: Batch) -> Answers:
        """The teacher's answers to a batch of training examples.

        A teacher that sees both sides would see the targets; it is asked for the newest step of a prefix of every history.
        """
        body = self.teacher.backbone
        if body.causal:
            asked = batch
            ours, targets = batch.scored()
            theirs = ours
        else:
            asked, ours, theirs, targets = self._prefixes(batch)
        compared = self.options.hidden > 0
        states = body.encode(asked, keep_layers=compared)
        known = (
            known_of([picked(layer, theirs) for layer in states.layers], self.options.direction) if compared else None
        )
        return Answers(ours, batch.items.flatten()[ours], targets, picked(states.states, theirs), known)

    def _prefixes(self, batch: Batch) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """A prefix of every history that ends at a step with a target, as a question to the teacher, and where its answer is."""
        assert batch.targets is not None
        last = torch.multinomial((batch.targets > PAD).double() + 1e-12, 1).squeeze(1)
        asked = self.teacher.backbone.query(batch.prefixes(last + 1))
        rows = torch.arange(batch.size, device=last.device)
        wanted = batch.targets[rows, last]
        real = wanted > PAD
        ours, theirs = rows * batch.items.shape[1] + last, rows * asked.items.shape[1] + asked.last
        return asked, ours[real], theirs[real], wanted[real]

    def _embedding(self, student: Backbone, ids: Tensor) -> Tensor:
        """L_emb of the items [M] of the tokens."""
        body = self.teacher.backbone
        with torch.no_grad():
            wanted = body.vectors(ids, body.items.dim).float() * body.scale
        found = self.embedding(student.vectors(ids, student.items.dim) * student.scale).float()
        return (found - wanted).square().mean() / wanted.square().mean().clamp_min(1e-12)

    def _hidden(self, ours: Tensor, known: Known) -> Tensor:
        """L_hid of states [L, M, D] and the teacher's."""
        with torch.autocast(ours.device.type, enabled=False):  # differences of long sums need float32 need float32
            distance = divergences(self.hidden(ours.float()), known)
        if self.options.mapping == "fixed":
            rows = torch.arange(len(ours), device=ours.device)
            return distance[rows, (rows + 1) * len(known.table) // len(ours) - 1].mean()
        flow = cheapest_flow(self.student_weights, self.teacher_weights, distance)
        if self.options.adaptive and self.training:
            work = flow * distance.detach().double()
            self.student_weights.copy_(reweighted(self.student_weights, work.sum(1)))
            self.teacher_weights.copy_(reweighted(self.teacher_weights, work.sum(0)))
        return (flow.to(distance.dtype) * distance).sum()

    def _logits(self, items: ItemTable, ours: Tensor, theirs: Tensor, targets: Tensor) -> Tensor:
        """L_log of states [M, .] of both."""
        table, direction, most = self.teacher.items, self.options.direction, self.options.candidates
        if most:
            drawn = targets[torch.randperm(len(targets), device=targets.device)[:most]]
            with torch.no_grad():
                wanted = among(table, theirs, targets, drawn)
            return divergence(among(items, ours, targets, drawn), wanted, direction) / len(targets)

        assert items.matrix is not None
        vectors = items.matrix[1:, : ours.shape[-1]]
        return soft_targets_loss(ours.float(), vectors, lambda rows: table.score(theirs[rows]), direction == "teacher")


def picked(states: Tensor, tokens: Tensor) -> Tensor:
    """States [M, w] of ``tokens`` [M] in the flat order of states [B, T, w]."""
    return states.flatten(0, 1).index_select(0, tokens)


def divergence(student: Tensor, teacher: Tensor, direction: str) -> Tensor:
    """Sum of KL divergences of log-probabilities [M, N]: KL(teacher || student), or the reverse for direction "student"."""
    first, second = (teacher, student) if direction == "teacher" else (student, teacher)
    return F.kl_div(second, first, reduction="sum", log_target=True)


@torch.no_grad()
def known_of(layers: Sequence[Tensor], direction: str) -> Known:
    """States [M, C] of the teacher's blocks, to be compared; ``direction`` as in `DistilOptions`.

    Block by block: what lies between states and probabilities stays in the cache.
    """
    table = torch.empty(len(layers), layers[0].numel(), device=layers[0].device)
    own = torch.empty(len(layers), device=table.device)
    with torch.autocast(table.device.type, enabled=False):  # so long a sum loses too much in bfloat16
        for row, layer, total in zip(table, layers, own, strict=True):
            logs = layer.float().log_softmax(-1).flatten()
            if direction == "teacher":
                torch.exp(logs, out=row)
                total.copy_(row @ logs)
            else:
                row.copy_(logs)
    return Known(table, own if direction == "teacher" else None)


def divergences(student: Tensor, known: Known) -> Tensor:
    """Mean KL divergences [L, L'] over tokens of every pair of blocks, of states [L, M, C] as logits and the teacher's.

    One matrix product: KL(p || q) = sum p log p - sum p log q.
    """
    tokens, ours = student.shape[1], student.log_softmax(-1).flatten(1)
    if known.own is not None:
        return (known.own - ours @ known.table.t()) / tokens
    p = ours.exp()
    return ((p * ours).sum(1)[:, None] - p @ known.table.t()) / tokens
