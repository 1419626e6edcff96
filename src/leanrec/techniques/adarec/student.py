"""The loss of a student of a known architecture that learns from a teacher."""

from __future__ import annotations

from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Criterion, Recommender, refuse_teacher
from leanrec.core.types import Batch
from leanrec.techniques.adarec.distil import Answers, Distiller, DistilOptions


class Distillation(Criterion):
    """The objective and, if it ``distils``, the terms that compare the student with its teacher.

    Args:
        options: See `DistilOptions`.
        distils: Whether a teacher is needed, unless ``options.distil`` is 0.
    """

    def __init__(self, options: DistilOptions, distils: bool = True) -> None:
        super().__init__()
        self.options, self.distils = options, distils and options.distil > 0
        self.distiller: Distiller | None = None

    def learn_from(self, model: Recommender, teacher: Recommender | None) -> None:
        """Learn from a teacher.

        Raises:
            ConfigError: None is named where one is needed, or one that does not fit.
        """
        if self.options.distil == 0:
            refuse_teacher(teacher)
        elif teacher is None:
            raise ConfigError(
                "expected train.teacher, a finished run to learn from, got none; name it with --teacher RUN, or set "
                "technique.adarec.distil=0 to do without"
            )
        elif self.distils:
            self.distiller = Distiller(model.backbone, teacher, self.options)

    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        batch = model.backbone.examples(batch)
        return self.held_against(model, batch, self.ask(batch))

    def ask(self, batch: Batch) -> Answers | None:
        """The teacher's outputs for training examples; None if nothing is distilled."""
        if not self.distils:
            return None
        if self.distiller is None:
            raise ValueError("a model that distils was given no teacher; call learn_from first")
        return self.distiller.ask(batch)

    def held_against(self, model: Recommender, batch: Batch, answers: Answers | None) -> dict[str, Tensor]:
        """Named, weighted loss terms of training examples, compared with the teacher's outputs for them."""
        index, targets = batch.scored()
        hidden = model.backbone.encode(batch, keep_layers=answers is not None)
        terms = model.objective(model, batch, hidden.states.flatten(0, 1).index_select(0, index), targets)
        if answers is None or self.distiller is None:
            return terms
        share, taught = self.options.distil, self.distiller.terms(model, hidden, answers)
        return {n: (1 - share) * term for n, term in terms.items()} | {n: share * term for n, term in taught.items()}
