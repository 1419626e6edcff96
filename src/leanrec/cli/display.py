"""Show a search: a live display on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from leanrec.tasks.words import labelled

TEST = "opened once, for the full model and the chosen one"
MARKS = {"done": "✓", "running": "▸", "skipped": "–", "abandoned": "✗", "failed": "✗", "no time": "…"}


class Display(AbstractContextManager["Display"]):
    """Shows the events of a search. Use it in a ``with`` statement.

    Args:
        as_json: Write every event as a line of JSON.
        stream: Where to; stdout stays free for results.
    """

    def __init__(self, as_json: bool = False, stream: TextIO | None = None) -> None:
        self.as_json, self.stream = as_json, stream or sys.stderr
        self.console = Console(file=self.stream, highlight=False, markup=False, emoji=False)
        self.live: Live | None = None
        self.rows: dict[str, tuple[str, str]] = {}
        self.best = ""
        self.left, self.at = float("inf"), time.monotonic()

    def __enter__(self) -> Display:
        if self.console.is_terminal and not self.as_json:
            self.live = Live(console=self.console, refresh_per_second=2, get_renderable=self._drawn)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last state on the terminal and draw no more."""
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        if self.as_json:
            self.stream.write(json.dumps(event, ensure_ascii=False) + "\n")
            self.stream.flush()
            return
        if "left" in event:
            self.left, self.at = event["left"], time.monotonic()
        line = self._line(event)
        if self.live is None and line:
            self.console.print(line, soft_wrap=True)

    def _line(self, event: dict[str, Any]) -> str:
        """An event in words; also updates the rows of the live display."""
        kind, name = event["event"], event.get("name") or ""
        if kind == "trial":
            self.rows[name] = ("running", event["summary"])
            return f"{name}: {event['summary']} ({minutes(event['left'])} left)"
        if kind == "epoch":
            state = f"epoch {event['epoch']}/{event['epochs']}  valid ndcg@10 {event['ndcg@10']:.4f}"
            self.rows[name] = ("running", state)
            return f"{name}: {state}  {event['seconds']:.0f} s"
        if kind == "trained":
            state = self._ended(event)
            self.rows[name] = (event["status"], state)
            if "best" in event:
                self.best = point(event["best"])
            return f"{name}: {event['status']}: {state}"
        if kind == "confirmed":
            lines = [
                f"{point(p['point'] | {'loss': p['loss']})}: {'kept' if p['accepted'] else 'not sure enough'}"
                for p in event["proposals"]
            ]
            self.rows["confirmed on users held back"] = ("done", "; ".join(lines) or "nothing to confirm")
            return "confirmed on users held back: " + ("; ".join(lines) or "nothing to confirm")
        state = f"writing graphs as {event['format']}" if kind == "export" else TEST
        self.rows[kind] = ("running", state)
        return f"{kind}: {state}"

    def _ended(self, event: dict[str, Any]) -> str:
        if event.get("why"):
            return event["why"]
        return point(event["point"]) if "point" in event else f"valid ndcg@10 {event['ndcg@10']:.4f}"

    def _drawn(self) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 1))
        for name, (status, state) in self.rows.items():
            table.add_row(Text(MARKS.get(status, " ")), Text(name), Text(state))
        left = max(0.0, self.left - (time.monotonic() - self.at))
        table.add_row("", Text("time left"), Text(minutes(left)))
        if self.best:
            table.add_row("", Text("best so far"), Text(self.best))
        return table


def point(found: dict[str, Any]) -> str:
    """A point of a search in words."""
    loss = found["loss"]
    return f"{labelled(found['name'], found['budget'])} loses {100 * loss['mean']:+.2f} %, at most {100 * loss['upper']:+.2f} %"


def minutes(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if seconds == float("inf"):
        return "unlimited time"
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
