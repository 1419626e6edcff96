"""Open artifacts one after the other in a process of its own, which may hang, end or take memory without harm to the tests."""

from __future__ import annotations

import json
import math
import os
import resource
import select
import subprocess
import sys
import traceback
from pathlib import Path
from typing import IO, Any

from leanrec.core.errors import LeanrecError

TESTS = Path(__file__).parents[1]
SILENT, STARTING = 5.0, 60.0
"""Seconds after which an opening, or the start of the process, is taken to hang."""
ROOM = 2 * 2**30
"""Bytes of addresses that the process may take beyond what honest artifacts took, so that nothing hurts the machine."""


class Opener:
    """A process that opens what it is told to. It is started when it is needed, and again after it hung, ended or grew.

    Args:
        honest: A whole artifact of every kind. Nothing may take more than twice the memory that they take.
        notes: File for what the process prints on stderr, where nothing may stand.
    """

    def __init__(self, honest: dict[str, Path], notes: Path) -> None:
        self.honest, self.notes, self.process = honest, notes, None
        self.answers: dict[str, Any] = {}
        self.limit = 0

    def __enter__(self) -> Opener:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def open(self, kind: str, path: Path) -> dict[str, Any]:
        """How the opening ended: ``refused`` or ``answered`` or ``fault``, and the text, answers or traceback."""
        if self.process is None:
            self._start()
        before = self.notes.stat().st_size
        found = self._ask(kind, path, SILENT)
        printed = self.notes.read_text(errors="replace")[before:]
        if found is None:
            found = {"fault": f"silent for {SILENT} s, or ended, after {printed[-2000:]!r}"}
        elif found["peak"] > self.limit:
            found = {"fault": f"took {found['peak']} bytes, more than {self.limit}"}
        elif printed:
            return {"fault": f"printed {printed[-2000:]!r}"}
        if "fault" in found:
            self.stop()
        return found

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> None:
        with self.notes.open("ab") as notes:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from e2e.opening import work; work()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=notes,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1"},
            )
        for kind, path in self.honest.items():
            found = self._ask(kind, path, STARTING)
            assert found is not None and "answered" in found, (kind, found, self.notes.read_text()[-2000:])
            self.answers[kind], self.limit = found["answered"], 2 * found["peak"]
        assert self._ask("", Path(), STARTING) == {}

    def _ask(self, kind: str, path: Path, seconds: float) -> dict[str, Any] | None:
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps([kind, str(path)]).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None


def work() -> None:
    """Open what stdin names, a line each, and write a line about each."""
    out: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed is seen
    for line in sys.stdin.buffer:
        kind, path = json.loads(line)
        if not kind:  # all that is honest has been opened
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + ROOM
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            found = {}
        else:
            found = _opened(kind, Path(path))
            found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        out.write(json.dumps(found).encode() + b"\n")
        out.flush()


def _opened(kind: str, path: Path) -> dict[str, Any]:
    try:
        return {"answered": _batch(path) if kind == "store" else _answers(kind, path)}
    except LeanrecError as error:
        text = str(error)
        return {"refused": text} if "\n" not in text and len(text) < 2000 else {"fault": f"more than a line: {text}"}
    except BaseException:  # a panic of a library is no Exception
        return {"fault": traceback.format_exc()}


def _answers(kind: str, path: Path) -> list[list[Any]]:
    """The best items for two users, once the server's self-check has passed."""
    from leanrec.build import open_run
    from leanrec.engine.export_runner import open_export
    from leanrec.server.selfcheck import self_check

    engine = open_export(path)[0] if kind.startswith("onnx") else open_run(path).engine()
    keys = engine.catalog.keys
    k = min(5, len(keys))
    answers = engine.recommend([keys[:3], keys[-1:]], k)
    self_check(engine, path)
    for answer in answers:
        scores = [item.score for item in answer.items]
        assert len({item.item for item in answer.items} & set(keys)) == k, answer
        assert all(map(math.isfinite, scores)) and scores == sorted(scores, reverse=True), answer
        assert 0 < answer.flops_ratio < math.inf, answer
    return [[[item.item, item.title, item.score] for item in answer.items] for answer in answers]


def _batch(path: Path) -> list[int]:
    """A batch of training windows from a store, and all that is read before."""
    import numpy as np

    from leanrec.data.batches import BatchLimits, TrainingData, everyone, questions, targets
    from leanrec.data.describe import describe
    from leanrec.data.split import Split
    from leanrec.data.store import Store

    store = Store.open(path)
    assert len(store.catalog) == store.num_items and len(store.user_keys) == store.num_users
    json.dumps(describe(store))
    for split in (Split.leave_one_out(store), Split.time_quantiles(store)):
        windows = TrainingData(store, split.halved(), 8)
        order = windows.epoch(0, 0, BatchLimits(16, 1024))
        items = windows.batch(order[0]).items.numpy() if order else np.ones(1, int)
        found = targets(store, questions(store, split, "test"))
        for ids in (items, found):
            assert not len(ids) or (ids.min() >= 0 and ids.max() <= store.num_items), ids
    return [store.num_events, len(everyone(store).users), int(items.sum())]
