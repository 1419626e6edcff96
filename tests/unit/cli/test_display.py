"""How a search shows itself."""

from __future__ import annotations

import io
import json
from typing import Any

from leanrec.cli.display import Display, minutes

LOSS = {"mean": 0.012, "low": 0.0, "high": 0.03, "upper": 0.025, "p": 0.02}
POINT = {"name": "canet", "budget": 0.5, "flops": 10.0, "bytes": 5, "params": 5, "loss": LOSS}
EVENTS: list[dict[str, Any]] = [
    {"event": "trial", "name": "full", "summary": "the full model", "left": 3600.0},
    {"event": "epoch", "name": "full", "stage": "train", "epoch": 2, "epochs": 8, "ndcg@10": 0.25, "seconds": 61.0},
    {"event": "trained", "name": "full", "status": "done", "ndcg@10": 0.25, "left": 3500.0},
    {"event": "trained", "name": "tiny [red]", "status": "skipped", "why": "too large", "left": 100.0},
    {"event": "trained", "name": "canet", "status": "done", "why": "", "point": POINT, "best": POINT, "left": 90.0},
    {
        "event": "confirmed",
        "proposals": [{"point": POINT, "loss": LOSS | {"upper": 0.04}, "accepted": False}],
        "chosen": None,
    },
    {"event": "test", "name": None, "left": 80.0},
    {"event": "export", "name": "exported", "format": "onnx"},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Display(stream=out) as display:
        for event in EVENTS:
            display(event)
    assert out.getvalue().splitlines() == [
        "full: the full model (60 min left)",
        "full: epoch 2/8  valid ndcg@10 0.2500  61 s",
        "full: done: valid ndcg@10 0.2500",
        "tiny [red]: skipped: too large",
        "canet: done: canet at a budget of 0.5 loses +1.20 %, at most +2.50 %",
        "confirmed on users held back: canet at a budget of 0.5 loses +1.20 %, at most +4.00 %: not sure enough",
        "test: opened once, for the full model and the chosen one",
        "export: writing graphs as onnx",
    ]


def test_lines_of_json_for_programs() -> None:
    out = io.StringIO()
    with Display(as_json=True, stream=out) as display:
        for event in EVENTS:
            display(event)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == EVENTS


def test_one_live_display_on_a_terminal() -> None:
    out = Terminal()
    with Display(stream=out) as display:
        for event in EVENTS:
            display(event)
    shown = out.getvalue()
    for word in ("tiny [red]", "too large", "time left", "best so far", "opened once", "\x1b["):
        assert word in shown


def test_times() -> None:
    assert [minutes(s) for s in (5, 130, 7300, float("inf"))] == ["5 s", "2 min", "2.0 h", "unlimited time"]
