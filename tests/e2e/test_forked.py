"""A forked process opens nothing that it would wait for without end, and answers with what was opened before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys, warnings
import leanrec
from leanrec.core.forks import check_forked

warnings.simplefilter("ignore")  # Python's and polars' own warnings of forks
run, store, work = sys.argv[1:]
engine, opened = leanrec.open_run(run).engine(), leanrec.Store.open(store)
tasks = {
    "run": lambda: leanrec.open_run(run),
    "store": lambda: leanrec.Store.open(store),
    "users": lambda: opened.users_table(),
    "import": lambda: leanrec.import_log(run + "/none.csv", run + "/none"),
    "simulate": lambda: leanrec.simulate(leanrec.Shop(users=30), run + "/none"),
    "answer": lambda: print(engine.recommend([["it's"]], k=1)[0].items[0].item),
}
child = os.fork()
if not child:
    try:
        tasks[work]()
    except leanrec.LeanrecError as error:
        print(f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    os._exit(0)
_, status = os.waitpid(child, 0)
check_forked()  # the parent has its threads
sys.exit(os.waitstatus_to_exitcode(status))
"""


def forked(work: str, run: Path, store: Path) -> str:
    """What a child that is forked after a run and a store were opened prints."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, run, store, work], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not list a process's threads")
@pytest.mark.parametrize("work", ["run", "store", "users", "import", "simulate"])
def test_what_would_wait_without_end_is_refused(work: str, run: Path, store: Path) -> None:
    assert forked(work, run, store) == (
        "ForkError: expected a process with the threads that read and write tables, got a fork of one that had started them, "
        "without them: this would wait for ever; open runs, exports and stores before the fork, or start processes with "
        "multiprocessing's spawn or forkserver\n"
    )
    assert not (run / "none").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_an_engine_answers_in_a_fork(run: Path, store: Path) -> None:
    assert forked("answer", run, store).strip()
