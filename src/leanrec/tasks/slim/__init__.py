"""Find the cheapest recommender that stays good: see `leanrec.tasks.slim.search`."""

from leanrec.tasks.slim.exported import export_chosen
from leanrec.tasks.slim.plan import Plan, SearchedCost, parse_limits, plan_of
from leanrec.tasks.slim.result import CHOSEN, RESULT, headline, keep_winner, search_result
from leanrec.tasks.slim.search import run_search
from leanrec.tasks.slim.state import State
from leanrec.tasks.slim.watch import EventListener

__all__ = [
    "CHOSEN",
    "RESULT",
    "EventListener",
    "Plan",
    "SearchedCost",
    "State",
    "export_chosen",
    "headline",
    "keep_winner",
    "parse_limits",
    "plan_of",
    "run_search",
    "search_result",
]
