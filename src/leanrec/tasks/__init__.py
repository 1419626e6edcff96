"""The work of the commands as functions: train a run, evaluate it, measure it, recommend with it."""

from leanrec.opening import Answering, open_answering
from leanrec.tasks.answering import evaluate_export, open_data, recommend_all, recommended, run_bench
from leanrec.tasks.baselines import Baseline, baselines
from leanrec.tasks.controls import (
    SEARCHED_BUDGETS,
    RoutedPart,
    alone_config,
    cheapest_budget,
    controls_of,
    curve,
    groups_of,
    unseen,
)
from leanrec.tasks.evaluation import (
    CALIBRATED,
    Evaluation,
    Part,
    asked_of,
    checked_budget,
    evaluate_run,
    never_trained,
    rank_part,
    split_asked,
)
from leanrec.tasks.exporting import export_of, export_run
from leanrec.tasks.refreshing import refresh_run
from leanrec.tasks.training import finished, run_training
from leanrec.tasks.worth import told, weigh_again, with_controls

__all__ = [
    "CALIBRATED",
    "SEARCHED_BUDGETS",
    "Answering",
    "Baseline",
    "Evaluation",
    "Part",
    "RoutedPart",
    "alone_config",
    "asked_of",
    "baselines",
    "cheapest_budget",
    "checked_budget",
    "controls_of",
    "curve",
    "evaluate_export",
    "evaluate_run",
    "export_of",
    "export_run",
    "finished",
    "groups_of",
    "never_trained",
    "open_answering",
    "open_data",
    "rank_part",
    "recommend_all",
    "recommended",
    "refresh_run",
    "run_bench",
    "run_training",
    "split_asked",
    "told",
    "unseen",
    "weigh_again",
    "with_controls",
]
