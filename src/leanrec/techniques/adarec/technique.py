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

Deviations from the published code, each of which corrects a fault of it: every operation is causal, so neither the labels nor a
bidirectional teacher leak (such a teacher answers the newest step of a prefix only); padding takes no part, and all terms are
means over tokens, so that their weights mean the same on every log; divergences take the side that ``direction`` says, by default
the teacher's; the temperature acts on what is drawn; validation runs the most probable architecture; the choice's learning rate is
``pace`` times that of the weights, not a 250th; L_cost is the expectation, of costs at the student's own size; epochs are
selected by NDCG@10 alone; the teacher computes no gradients; the weights of the layers are stored with the model. L_emb is
relative to the size of the teacher's vectors. Other deviations are choices of ours: by default tuning goes on with the teacher
and starts from fresh weights, and both stages share ``train.learning_rate``.
"""

from __future__ import annotations

from typing import cast

from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.layers.cell_stack import CellStack
from leanrec.techniques import techniques
from leanrec.techniques.adarec.config import AdaRecConfig
from leanrec.techniques.adarec.distil import Distiller
from leanrec.techniques.adarec.search import ArchitectureSearch
from leanrec.techniques.adarec.student import Distillation


@techniques.register("adarec", AdaRecConfig)
class AdaRecTechnique(Technique):
    """Searches and distils; see the module.

    Args:
        config: Search space, budgets, distillation.
    """

    name = "adarec"
    kind: Kind = "derive"
    needs = frozenset({"cells"})
    fills = frozenset({"items", "criterion"})  # its item vectors are held against the teacher's, whole

    def __init__(self, config: AdaRecConfig) -> None:
        self.config = config

    def apply(self, model: Recommender) -> None:
        """Fill ``criterion``: with a search, which opens the cells, or with distillation alone where the architecture is given.

        Raises:
            ConfigError: The search space has an unknown operation, or nothing in it fits the budgets.
        """
        if cast(CellStack, model.backbone).architecture:
            model.criterion = self._distillation()
        else:
            model.criterion = ArchitectureSearch(model, self.config)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """Search, then tune what was found."""
        epochs = self.config.search_epochs or base.epochs
        return (
            Stage("search", epochs, base.parameters, self._derive, searches),
            Stage("tune", base.epochs, base.parameters, leave),
        )

    def holds(self, model: Recommender) -> bool:
        """Whether the search or the distillation is there, or, in the end, the architecture."""
        return isinstance(model.criterion, Distillation) or bool(model.backbone.found())

    def _derive(self, model: Recommender) -> None:
        """Leave the student that a search has found, to be tuned."""
        search = model.criterion
        if not isinstance(search, ArchitectureSearch):
            return
        search.derive()
        if self.config.weights == "fresh":
            model.backbone = search.cells.renewed().to(search.alpha.device)
        model.criterion = None
        model.criterion = self._distillation(search.distiller)
        model.train(model.training)

    def _distillation(self, distiller: Distiller | None = None) -> Distillation:
        """The loss of a known architecture, with the teacher if it is tuned with one."""
        found = Distillation(self.config, self.config.tuning == "distil")
        if found.distils:
            found.distiller = distiller
        return found


def searches(model: Recommender) -> bool:
    """Whether an architecture is being searched."""
    return isinstance(model.criterion, ArchitectureSearch)


def leave(model: Recommender) -> None:
    """Leave the student alone, without its teacher."""
    model.criterion = None
