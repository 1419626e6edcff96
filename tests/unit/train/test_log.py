from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from leanrec.core.errors import WriteError
from leanrec.core.stage import Stage
from leanrec.train.checkpoint import Progress
from leanrec.train.log import LOG_FILE, Bar, CsvLog, Several

ROWS: list[dict[str, int | float]] = [
    {"epoch": 1, "loss": 2.5, "seconds": 10.0, "ndcg@10": 0.1},
    {"epoch": 2, "loss": 1 / 3, "seconds": 21.0, "ndcg@10": 0.2},
]
STAGE = Stage("train", 7)


def after(epochs: int) -> Progress:
    return Progress(
        epoch=epochs,
        best_epoch=epochs,
        best=0.1 * epochs,
        seconds=10.0 * epochs,
        users=5000 * epochs,
        history=ROWS[:epochs],
    )


def test_the_csv_log_is_rewritten_whole(tmp_path: Path) -> None:
    log = CsvLog(tmp_path)
    log.start(STAGE, 5, Progress())
    log.step(Progress(step=1))
    assert not (tmp_path / LOG_FILE).exists()
    log.epoch(after(1))
    log.epoch(after(2))
    with (tmp_path / LOG_FILE).open(newline="") as file:
        assert [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)] == ROWS


def test_a_row_that_a_killed_run_lost_is_written_on_resume(tmp_path: Path) -> None:
    CsvLog(tmp_path).start(STAGE, 5, after(2))
    assert len((tmp_path / LOG_FILE).read_text().splitlines()) == 3


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).mkdir()
    message = r"^expected a file to write, got a directory at .*log\.csv; choose another place$"
    with pytest.raises(WriteError, match=message):
        CsvLog(tmp_path).epoch(after(1))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watch(stream: io.StringIO) -> Bar:
    """One epoch of two steps."""
    bar = Bar(stream)
    bar.start(STAGE, 2, Progress())
    for step in (1, 2):
        bar.step(Progress(step=step, loss=1.5 * step, seconds=float(step), users=100 * step, best=0.05, best_epoch=3))
    bar.epoch(after(1))
    return bar


EPOCH = "train 1/7  loss 2.5000  valid ndcg@10 0.1000  best 0.1000 (epoch 1)  500 users/s  10 s"


def test_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    watch(stream)
    assert stream.getvalue() == EPOCH + "\n"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    stream = Terminal()
    bar = watch(stream)
    assert bar.bar is None
    text = stream.getvalue()
    assert "train 1/7" in text and "2/2" in text
    assert "loss 3.000  100 users/s  best 0.0500 (epoch 3)" in text
    assert text.rstrip().endswith(EPOCH)


def test_a_resumed_run_says_where_it_goes_on_and_counts_its_own_speed() -> None:
    stream = io.StringIO()
    bar = Bar(stream)
    bar.start(STAGE, 5, Progress(epoch=1, step=3, users=5000, seconds=9.0))
    bar.epoch(after(2))
    first, second = stream.getvalue().splitlines()
    assert first == "train: going on at epoch 2, step 3"
    assert second.endswith("455 users/s  20 s")


def test_several_watchers_hear_the_same() -> None:
    heard: list[str] = []

    class Ear:
        def __init__(self, name: str) -> None:
            self.name = name

        def start(self, stage: Stage, steps: int, progress: Progress) -> None:
            heard.append(f"{self.name} start {steps}")

        def step(self, progress: Progress) -> None:
            heard.append(f"{self.name} step")

        def epoch(self, progress: Progress) -> None:
            heard.append(f"{self.name} epoch")

    both = Several([Ear("left"), Ear("right")])
    both.start(STAGE, 4, Progress())
    both.step(Progress())
    both.epoch(Progress())
    assert heard == ["left start 4", "right start 4", "left step", "right step", "left epoch", "right epoch"]
