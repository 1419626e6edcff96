"""A watcher of training for tests."""

from __future__ import annotations


class Notes:
    """Keeps the lines that whoever trains is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, stage: object, steps: int, progress: object) -> None: ...

    def step(self, progress: object) -> None: ...

    def epoch(self, progress: object) -> None: ...

    def calibrate(self, what: str, done: int, total: int) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)
