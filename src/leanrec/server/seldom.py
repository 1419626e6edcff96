"""Keep the log readable while one thing goes wrong again and again: one line a second that says how often."""

from __future__ import annotations

import asyncio
import logging

LOGS = ("leanrec.server", "uvicorn.error")
SECOND = 1.0


class Seldom(logging.Filter):
    """Passes the first line of a kind, and then one a second that says how many more there were.

    Lines are of one kind if they have the same level and the same text before values are filled in.

    Args:
        every: Seconds between two lines of a kind.
    """

    def __init__(self, every: float = SECOND) -> None:
        super().__init__()
        self._every = every
        self._loop: asyncio.AbstractEventLoop | None = None
        self._since: dict[tuple[int, str], tuple[logging.LogRecord, int]] = {}

    def start(self) -> None:
        """Filter the logs of a server from now on, with the running loop's clock."""
        self._loop = asyncio.get_running_loop()
        for name in LOGS:
            logging.getLogger(name).addFilter(self)

    def stop(self) -> None:
        """Write what was kept back, and stop filtering."""
        self._loop = None
        for kind in list(self._since):
            self._tell(kind)
        for name in LOGS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written at once."""
        kind = (record.levelno, str(record.msg))
        if kind in self._since:
            self._since[kind] = (record, self._since[kind][1] + 1)
            return False
        if self._loop is not None:
            self._since[kind] = (record, 0)
            self._loop.call_soon_threadsafe(self._later, kind)
        return True

    def _later(self, kind: tuple[int, str]) -> None:
        if self._loop is not None:
            self._loop.call_later(self._every, self._tell, kind)

    def _tell(self, kind: tuple[int, str]) -> None:
        """Write the last line that was kept back, with the number of others, and keep back what comes in the next second."""
        last, more = self._since.pop(kind, (None, 0))
        if last is None or not more:
            return
        said = logging.makeLogRecord({**last.__dict__, "exc_info": None, "exc_text": None, "args": None})
        said.msg = f"{last.getMessage()} ({more} more of these since the last line)"
        logging.getLogger(last.name).callHandlers(said)
        if self._loop is not None:
            self._since[kind] = (last, 0)
            self._later(kind)
