"""Metrics of a server, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from leanrec.server.schemas import Answer

if TYPE_CHECKING:
    from leanrec.server.live import Live

METRICS_MEDIA = "text/plain; version=0.0.4; charset=utf-8"
_MOST_ROUTES = 64
"""Routes with a series of their own; the others share one."""
SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1, 2, 5)
_USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters and gauges of one server. The number of labels is bounded: paths and problems are listed, routes are the model's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry, "namespace": "leanrec"}
        self.requests = Counter("requests", "Requests by path and status.", ("path", "status"), **own)
        self.seconds = Histogram(
            "request_seconds", "Time from a request to its reply.", ("path",), buckets=SECONDS, **own
        )
        self.route_seconds = Histogram(
            "answer_seconds", "Time to answer a user, by the route taken.", ("route",), buckets=SECONDS, **own
        )
        self.flops = Counter("flops_ratio", "Sum of the users' FLOPs as shares of the full model's.", **own)
        self.batch = Histogram("batch_users", "Users answered together.", buckets=_USERS, **own)
        self.wait = Histogram("queue_seconds", "Wait of the first user of a batch.", buckets=SECONDS, **own)
        self.refused = Counter(
            "refused", "Requests, and users of a list, refused, by type of problem.", ("problem",), **own
        )
        self.events = Counter("events", "Events accepted.", **own)
        self.unknown_events = Counter("unknown_events", "Accepted events whose item the model does not know.", **own)
        self.reloads = Counter("reloads", "Models that took over, or failed to.", ("result",), **own)
        self.model = Gauge("model_info", "The model that is served.", ("model",), **own)
        self._gauges = own
        self._routes: dict[str, Histogram] = {}
        self._paths: dict[tuple[str, int], Counter] = {}

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value a function tells when Prometheus asks."""
        Gauge(name, about, **self._gauges).set_function(read)

    def replied(self, path: str, status: int, seconds: float) -> None:
        """Count a reply."""
        counter = self._paths.get((path, status))
        if counter is None:
            counter = self._paths[path, status] = self.requests.labels(path, str(status))
        counter.inc()
        self.seconds.labels(path).observe(seconds)

    def answered(self, answer: Answer, seconds: float) -> None:
        """Count the answer of one user."""
        route = self._routes.get(answer.route)
        if route is None:
            name = answer.route if len(self._routes) < _MOST_ROUTES else "other"
            route = self._routes[answer.route] = self.route_seconds.labels(name)
        route.observe(seconds)
        self.flops.inc(answer.flops_ratio)

    def serves(self, live: Live) -> None:
        """Show which model is served."""
        self.model.clear()
        self.model.labels(live.digest).set(1)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self.registry)
