"""Sequential recommenders that are cheap to run, measured to have stayed good.

The names below are the public API; everything else may change. They are imported on first use, so that ``import leanrec`` is
quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leanrec.build import open_run
    from leanrec.config import parse
    from leanrec.core.errors import LeanrecError
    from leanrec.core.recommender import Recommender
    from leanrec.core.types import Batch, Route
    from leanrec.data.importer import import_log
    from leanrec.data.simulate import Shop, simulate
    from leanrec.data.store import Store
    from leanrec.tasks import evaluate_run, run_training

__all__ = [
    "Batch",
    "LeanrecError",
    "Recommender",
    "Route",
    "Shop",
    "Store",
    "evaluate_run",
    "import_log",
    "open_run",
    "parse",
    "run_training",
    "simulate",
]

_HOME = {
    "Batch": "core.types",
    "LeanrecError": "core.errors",
    "Recommender": "core.recommender",
    "Route": "core.types",
    "Shop": "data.simulate",
    "Store": "data.store",
    "evaluate_run": "tasks",
    "import_log": "data.importer",
    "open_run": "build",
    "parse": "config",
    "run_training": "tasks",
    "simulate": "data.simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'leanrec' has no attribute {name!r}")
    return getattr(import_module(f"leanrec.{_HOME[name]}"), name)
