"""Limits on what one request may ask for."""

from __future__ import annotations

from leanrec.server import schemas
from leanrec.server.problems import Refusal
from leanrec.server.settings import Settings, option


class RequestLimits:
    """Checks limits that are settings, which the schema of a body cannot have.

    Args:
        settings: Of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def seconds(self, asked: int | None) -> float:
        """Seconds within which to answer a request that asked for a deadline of so many milliseconds, or for none."""
        most = self.settings.deadline_ms
        return (most if asked is None else min(asked, most)) / 1000

    def check(self, body: schemas.Recommend | schemas.AddEvents) -> None:
        """Refuse a request that asks for too much, or for nothing that can be answered.

        Raises:
            Refusal: A limit is broken, or not exactly one source of histories is given.
        """
        self._at_most("k", body.k, self.settings.k, "k")
        for name in ("items", "history", "allow", "deny"):
            self._at_most(name, len(getattr(body, name, None) or ()), self.settings.history, "history")
        if isinstance(body, schemas.AddEvents):
            return
        given = [name for name in ("history", "user", "histories", "users") if getattr(body, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise Refusal("bad-request", f"expected exactly one of history, user, histories and users, got {got}")
        self._at_most(given[0], len(body.histories or body.users or ()), self.settings.users, "users")
        for history in body.histories or ():
            self._at_most("histories", len(history), self.settings.history, "history")

    def _at_most(self, name: str, got: int, most: int, setting: str) -> None:
        if got > most:
            raise Refusal(
                "over-limit", f"expected {name} of at most {most}, got {got}; the server sets this by {option(setting)}"
            )
