"""Find the cheapest recommender that stays good: see `leanrec.tasks.slim.search`."""

from leanrec.tasks.slim.exported import export_chosen
from leanrec.tasks.slim.plan import Cost, Plan, parse_limits, plan_of
from leanrec.tasks.slim.result import CHOSEN, RESULT, headline, keep, result
from leanrec.tasks.slim.search import run
from leanrec.tasks.slim.state import State
from leanrec.tasks.slim.watch import Tell

__all__ = [
    "CHOSEN",
    "RESULT",
    "Cost",
    "Plan",
    "State",
    "Tell",
    "export_chosen",
    "headline",
    "keep",
    "parse_limits",
    "plan_of",
    "result",
    "run",
]
