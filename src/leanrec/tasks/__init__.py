"""What the command line does, as functions: train a run, evaluate it, measure it, recommend with it."""

from leanrec.tasks.answering import recommend_all, run_bench
from leanrec.tasks.evaluation import Evaluation, Part, evaluate_run, rank_part
from leanrec.tasks.training import finished, run_training

__all__ = [
    "Evaluation",
    "Part",
    "evaluate_run",
    "finished",
    "rank_part",
    "recommend_all",
    "run_bench",
    "run_training",
]
