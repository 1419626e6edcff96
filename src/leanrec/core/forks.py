"""Say at once that a forked process lacks threads, where it would wait for them for ever.

Polars reads and writes tables on threads that start with its first use and stay. A fork copies a process without them: the copy
gives its work to threads that are not there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from leanrec.core.errors import ForkError

THREADS = Path("/proc/self/task")
_started = _missing = False


def check_forked() -> None:
    """Call it before polars.

    Raises:
        ForkError: This process is a fork of one in which polars had started its threads.
    """
    if _missing:
        raise ForkError(
            "expected a process with the threads that read and write tables, got a fork of one that had started them, without "
            "them: this would wait for ever; open runs, exports and stores before the fork, "
            "or start processes with multiprocessing's spawn or forkserver"
        )


def polars_runs(threads: Path = THREADS) -> bool:
    """Whether polars has started its threads in this process; where the system does not list threads, whether it may have."""
    if "polars" not in sys.modules:
        return False
    return not threads.exists() or any(_name(thread).startswith("polars-") for thread in threads.iterdir())


def _name(thread: Path) -> str:
    try:
        return (thread / "comm").read_text()
    except OSError:  # it has ended
        return ""


def _before() -> None:
    global _started
    _started = polars_runs()


def _in_child() -> None:
    global _missing
    _missing = _missing or _started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
