"""AdaRec: a student whose architecture is searched while it learns from a teacher (Chen et al., 2021, arXiv 2107.07173).

The student is a stack of cells (`layers.cells`). Two stages:

1. **search**: every edge of a cell holds all candidate operations. A step draws one of them for every edge and runs that one only
   (`search`), so it costs about one student. Weights and choice learn together from

       L = (1 - distil) L_CE + distil (embedding L_emb + hidden L_hid + logits L_log) + cost_weight L_cost

   where the middle terms hold the student against the teacher, token by token (`distil`), and L_cost is the expected cost of
   what is drawn, counted or measured at the student's own size (`costs`).
2. **tune**: the most probable architecture that fits the budgets is kept (`derive`) and trained alone, from fresh weights or from
   the search's.

What comes out is an ordinary model on the backbone `cells`: its architecture is data in the run's manifest. With
``backbone.architecture`` given there is nothing to search, and only the second stage runs: plain distillation.

Deviations from the published code, each of a fault of it: every operation is causal, so neither the labels nor a bidirectional
teacher leak (such a teacher answers the newest step of a prefix only); padding takes no part, and all terms are means over tokens,
so that their weights mean the same on every log; divergences take the side that ``direction`` says, by default the teacher's; the
temperature acts on what is drawn; the choice is firm, argmax, wherever it is validated; its learning rate is ``pace`` times that
of the weights, not a 250th; L_cost is the expectation, of costs at the student's own size; epochs are selected by NDCG@10
alone; the teacher computes no gradients; the weights of the layers are stored with the model. L_emb is relative to the size of the
teacher's vectors. Not of a fault: tuning goes on with the teacher and starts from fresh weights, unless told otherwise, and both
stages share ``train.learning_rate``.
"""

from __future__ import annotations

from typing import Literal, cast

from leanrec.core.backbone import Backbone
from leanrec.core.ranges import Amount, Positive, Share, Whole
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.layers.cell_stack import CellStack
from leanrec.techniques import techniques
from leanrec.techniques.adarec.distil import DistilOptions
from leanrec.techniques.adarec.search import Searching
from leanrec.techniques.adarec.student import Taught

OPERATIONS = ("conv3", "conv3x2", "conv3x4", "conv5", "conv5x2", "max3", "avg3", "attention", "skip", "none")


class AdaRecConfig(DistilOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Distil a teacher into a student whose architecture is searched (arXiv 2107.07173).

    Besides the fields of `DistilOptions`:

    Attributes:
        operations: Candidates of every edge (`layers.operations`).
        per_cell: Search every cell's operations instead of one set for all cells.
        search_epochs: Most epochs of the search; 0 for as many as ``train.epochs``.
        warmup: Share of these in which operations are drawn evenly and only weights learn.
        estimator: How the choice learns: "pair" compares two drawn architectures a step, "gumbel" is the paper's straight-through
            gradient of one.
        pace: How many times faster than the weights the choice learns.
        temperature: Of the draw when the choice begins to learn: log-probabilities are divided by it.
        final_temperature: At the end; between, it falls by the same factor every epoch.
        cost: What an operation costs: "flops", "params", or "ms" as measured here.
        cost_weight: Weight of the expected cost, as a share of that of the dearest operation everywhere.
        max_flops: Most FLOPs of a request with a history of full length, head included; 0 for any.
        max_params: Most parameters of the student; 0 for any.
        max_share: Most parameters of the student without its item table, as a share of the teacher's without its own, or, where
            there is no teacher, of the largest architecture's; 0 for any.
        max_ms: Longest request of one user with a history of full length, in milliseconds as measured here; 0 for any.
        tuning: Whether the second stage goes on with the teacher ("distil") or not ("task").
        weights: What the second stage starts from: fresh weights ("fresh"), or those of the search ("searched"), as in the
            published code; many architectures have shared them.
    """

    operations: tuple[str, ...] = OPERATIONS
    per_cell: bool = False
    search_epochs: Whole = 0
    warmup: Share = 0.3
    estimator: Literal["pair", "gumbel"] = "pair"
    pace: Positive = 10.0
    temperature: Positive = 1.0
    final_temperature: Positive = 0.3
    cost: Literal["flops", "params", "ms"] = "flops"
    cost_weight: Amount = 0.1
    max_flops: Whole = 0
    max_params: Whole = 0
    max_share: Amount = 0.0
    max_ms: Amount = 0.0
    tuning: Literal["distil", "task"] = "distil"
    weights: Literal["fresh", "searched"] = "fresh"


@techniques.register("adarec", AdaRecConfig)
class AdaRecTechnique(Technique):
    """Searches and distils; see the module.

    Args:
        config: Search space, budgets, distillation.
    """

    name = "adarec"
    kind: Kind = "derive"
    needs = frozenset({"cells"})
    fills = frozenset({"items", "loss"})  # its item vectors are held against the teacher's, whole

    def __init__(self, config: AdaRecConfig) -> None:
        self.config = config

    def apply(self, model: Recommender) -> Recommender:
        """A model that searches, or one that only learns from the teacher where the architecture is given.

        Raises:
            ConfigError: The search space has an unknown operation, or nothing in it fits the budgets.
        """
        backbone = cast(CellStack, model.backbone)
        if backbone.architecture:
            return self._student(model, backbone)
        return Searching(backbone, model.objective, self.config)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """Search, then tune what was found."""
        epochs = self.config.search_epochs or base.epochs
        return (
            Stage("search", epochs, base.parameters, self._derive, lambda model: isinstance(model, Searching)),
            Stage("tune", base.epochs, base.parameters, plain),
        )

    def holds(self, model: Recommender) -> bool:
        """See `Technique.holds`: the search or the teacher, and at the end the architecture."""
        return isinstance(model, Taught) or bool(model.backbone.found())

    def _derive(self, model: Recommender) -> Recommender:
        """The student that a search has found, to be tuned."""
        if not isinstance(model, Searching):
            return model
        model.derive()
        fresh = self.config.weights == "fresh"
        return self._student(model, model.cells.renewed().to(model.alpha.device) if fresh else model.cells)

    def _student(self, model: Recommender, backbone: Backbone) -> Taught:
        """A student of a known architecture, with the teacher if it is tuned with one."""
        student = Taught(backbone, model.objective, self.config, self.config.tuning == "distil")
        if isinstance(model, Taught) and student.distils:
            student.distiller = model.distiller
        return student.train(model.training)


def plain(model: Recommender) -> Recommender:
    """The student alone."""
    return Recommender(model.backbone, model.objective)
