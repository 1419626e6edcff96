"""Find the cheapest recommender that stays good: see `leanrec.tasks.slim.search`."""

from leanrec.tasks.slim.plan import Cost, Plan, parse_limits
from leanrec.tasks.slim.result import CHOSEN, RESULT, headline, keep, result
from leanrec.tasks.slim.search import Search, plan_of
from leanrec.tasks.slim.watch import Tell

__all__ = [
    "CHOSEN",
    "RESULT",
    "Cost",
    "Plan",
    "Search",
    "Tell",
    "headline",
    "keep",
    "parse_limits",
    "plan_of",
    "result",
]
