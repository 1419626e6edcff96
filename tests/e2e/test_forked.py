"""A forked process opens nothing that it would wait for without end, and answers with what was opened before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys, warnings
import leanrec
from leanrec.core.forks import check_forked

warnings.simplefilter("ignore")  # Python's and polars' own warnings of forks
run, store = sys.argv[1:]
engine, opened = leanrec.open_run(run).engine(), leanrec.Store.open(store)
tasks = {
    "run": lambda: leanrec.open_run(run),
    "store": lambda: leanrec.Store.open(store),
    "users": lambda: opened.users_table(),
    "import": lambda: leanrec.import_log(run + "/none.csv", run + "/none"),
    "simulate": lambda: leanrec.simulate(leanrec.Shop(users=30), run + "/none"),
    "answer": lambda: engine.recommend([["it's"]], k=1)[0].items[0].item,
}
for work in tasks:
    child = os.fork()
    if not child:
        try:
            said = tasks[work]()
        except leanrec.LeanrecError as error:
            said = f"{type(error).__name__}: {error}"
        print(json.dumps({work: str(said)}), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    check_forked()  # the parent has its threads
    assert os.waitstatus_to_exitcode(status) == 0, work
"""


@pytest.fixture(scope="module")
def said(run: Path, store: Path) -> dict[str, str]:
    """What each child says that is forked after a run and a store were opened, by what it does."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    command = [sys.executable, "-c", PROGRAM, run, store]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {work: text for line in done.stdout.splitlines() for work, text in json.loads(line).items()}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not list a process's threads")
@pytest.mark.parametrize("work", ["run", "store", "users", "import", "simulate"])
def test_what_would_wait_without_end_is_refused(work: str, said: dict[str, str], run: Path) -> None:
    assert said[work] == (
        "ForkError: expected a process with the threads that read and write tables, got a fork of one that had started them, "
        "without them: this would wait for ever; open runs, exports and stores before the fork, or start processes with "
        "multiprocessing's spawn or forkserver"
    )
    assert not (run / "none").exists()


def test_an_engine_answers_in_a_fork(said: dict[str, str]) -> None:
    assert said["answer"] and "Error" not in said["answer"]
