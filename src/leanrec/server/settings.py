"""Settings of a server: limits, times and keys."""

from __future__ import annotations

from dataclasses import dataclass, fields

from leanrec.core.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """Limits of a server. Users are counted, not requests: one request may ask for many.

    Attributes:
        gather_ms: Longest time that requests wait for others while several clients ask.
        batch: Most users that are answered in one call.
        queue: Most users that wait; more are refused with 429.
        deadline_ms: Longest time until a request is answered or refused.
        adaptive_budget: The budget to which load may lower others, as a share of the full model's FLOPs; None never lowers any.
        adaptive_wait_ms: Wait in the queue at which that floor is reached.
        users: Most users of one request.
        k: Most items of one request.
        history: Most items of one history, allow or deny list.
        body_bytes: Largest body.
        header_bytes: Largest head of a request: its path and its headers.
        header_s: Longest time in which a head arrives, from its first byte or from when the client connected.
        body_s: Longest time in which a body arrives, and in which a client that stops reading goes on.
        connections: Most clients connected at once.
        session_mb: Megabytes for the memories of users, with which an event costs one step.
        expand: Whether the compressed item table of an ONNX export is decompressed in memory, for speed.
        learn: Whether events are added to the model's table of what follows what, as they come.
        learn_days: Days after which what was learned from an event is worth half.
        learn_events: Newest requests with events that are kept to learn from, again after a restart or a reload.
        learn_rows: Most items of which something is learned at once.
        learn_entries: Most followers that are learned of an item beside those that the model's own table has.
        trust: Whether pt2 exports are opened, also by a reload; one can run any code in this process.
        drain_s: Seconds for which requests are still taken after a signal to stop, so that a load balancer can notice.
        api_key: Required in ``X-API-Key`` or as a bearer token on every path of /v1; empty for none.
        admin_key: Required to reload; empty if nobody may reload by HTTP.
    """

    gather_ms: float = 2.0
    batch: int = 128
    queue: int = 2048
    deadline_ms: int = 1000
    adaptive_budget: float | None = None
    adaptive_wait_ms: float = 50.0
    users: int = 256
    k: int = 1000
    history: int = 4096
    body_bytes: int = 2**20
    header_bytes: int = 2**16
    header_s: float = 10.0
    body_s: float = 30.0
    connections: int = 8192
    session_mb: int = 256
    expand: bool = False
    learn: bool = False
    learn_days: float = 7.0
    learn_events: int = 100_000
    learn_rows: int = 20_000
    learn_entries: int = 32
    trust: bool = False
    drain_s: float = 0.0
    api_key: str = ""
    admin_key: str = ""

    def __post_init__(self) -> None:
        for name in ("api_key", "admin_key"):
            if any("\ud800" <= letter <= "\udfff" for letter in getattr(self, name)):
                raise ConfigError(f"expected {option(name)} of UTF-8 text, got other bytes; choose another key")
        zero = {"gather_ms", "drain_s"}
        for field in fields(self):
            value, least = getattr(self, field.name), "0 or more" if field.name in zero else "above 0"
            if isinstance(value, str | bool) or value is None:
                continue
            if not (value >= 0 if field.name in zero else value > 0):
                raise ConfigError(f"expected {option(field.name)} {least}, got {value}")


def option(name: str) -> str:
    """The name of a setting on the command line."""
    return "--" + name.replace("_", "-")
