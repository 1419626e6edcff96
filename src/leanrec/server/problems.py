"""What a client is told when a request is not answered: problem details of RFC 9457, never a stack trace."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from leanrec.core.errors import LeanrecError, UnknownItemError

PROBLEM_MEDIA = "application/problem+json"


class Problem(msgspec.Struct, frozen=True):
    """The body of a refusal.

    Attributes:
        type: ``urn:leanrec:`` and a name of `STATUS`, for programs to branch on.
        title: The status in words.
        status: Of the reply.
        detail: What was expected, what came, and what to do.
    """

    type: str
    title: str
    status: int
    detail: str


STATUS: Mapping[str, int] = {
    "not-http": 400,
    "not-json": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "unknown-user": 404,
    "method-not-allowed": 405,
    "slow": 408,
    "reload-failed": 409,
    "too-large": 413,
    "not-json-type": 415,
    "bad-request": 422,
    "unknown-item": 422,
    "over-limit": 422,
    "overloaded": 429,
    "headers-too-large": 431,
    "internal": 500,
    "crowded": 503,
    "draining": 503,
    "sessions-unavailable": 503,
    "deadline": 504,
}
"""Every type of problem and its status."""


class Refusal(Exception):
    """A request that is not answered.

    Args:
        kind: A name of `STATUS`.
        detail: For the client.
        retry_after: Seconds after which it is worth asking again.
        headers: More headers of the reply.
    """

    def __init__(
        self, kind: str, detail: str, retry_after: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    @property
    def status(self) -> int:
        """Status of the reply."""
        return STATUS[self.kind]

    def problem(self) -> Problem:
        """The body of the reply."""
        return Problem(f"urn:leanrec:{self.kind}", HTTPStatus(self.status).phrase, self.status, self.detail)


def as_bytes(refused: Refusal, close: bool = False) -> bytes:
    """A refusal as the bytes of an HTTP/1.1 reply, for requests that do not reach the application.

    Args:
        refused: What is said.
        close: Whether the connection ends with it.
    """
    body = msgspec.json.encode(refused.problem())
    headers = {"content-type": PROBLEM_MEDIA, "content-length": str(len(body)), **refused.headers}
    if close:
        headers["connection"] = "close"
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}\r\n{lines}\r\n".encode("latin-1") + body


def refusal(error: LeanrecError) -> Refusal:
    """What a client is told of an error that its input caused."""
    return Refusal("unknown-item" if isinstance(error, UnknownItemError) else "bad-request", str(error))
