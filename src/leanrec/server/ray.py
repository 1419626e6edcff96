"""The same application on Ray Serve: replicas on as many machines as the cluster has.

Every replica opens and checks the run or export itself, so its path must exist on every machine. A new model is a new deployment:
replicas cannot be reloaded one by one. Metrics are those of the replica that happens to answer.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from leanrec.core.errors import ConfigError
from leanrec.server.app import make_app
from leanrec.server.live import open_live
from leanrec.server.running import listen
from leanrec.server.service import Service
from leanrec.server.settings import Settings
from leanrec.server.stores import open_store


def _ray(module: str) -> Any:
    """A module of Ray, which is an extra: neither this one nor the type checker needs it installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError("expected the package ray for --ray, got none; pip install 'leanrec[ray]'") from error


def application(run: Path, sessions: str, settings: Settings, replicas: int) -> Any:
    """A Ray Serve application, for ``ray.serve.run``.

    Raises:
        ConfigError: Ray is not installed, or replicas would each have sessions of their own.
    """
    if sessions == "memory" and replicas > 1:
        raise ConfigError(
            f"expected --sessions that {replicas} replicas share, got memory; use redis://HOST:PORT/DB, or sqlite:FILE "
            "on one machine"
        )
    serve = _ray("ray.serve")
    path, settings = run.resolve(), dataclasses.replace(settings, admin_key="")

    def replica() -> ASGIApp:
        return make_app(Service(open_live(path, settings), open_store(sessions), settings))

    deployment = serve.deployment(
        name="leanrec", num_replicas=replicas, max_ongoing_requests=settings.queue, graceful_shutdown_timeout_s=20
    )
    return deployment(serve.ingress(replica)()).bind()


def deploy(
    run: Path,
    sessions: str,
    settings: Settings,
    host: str,
    port: int,
    replicas: int,
    started: Callable[[str], None],
) -> None:
    """Deploy on the cluster of RAY_ADDRESS, or on one made here, and serve until a signal says to stop.

    Args:
        started: Called with the address when requests are taken.

    Raises:
        ConfigError: See `application`; or nothing can listen at the address.
        ArtifactError: The run or export is damaged.
    """
    app = application(run, sessions, settings, replicas)
    open_live(run, settings)  # a wrong one is refused here, not by every replica
    with listen(host, port) as probe:
        free = probe.getsockname()[1]
    ray, serve = _ray("ray"), _ray("ray.serve")
    stop = threading.Event()
    ray.init(include_dashboard=False, log_to_driver=False, ignore_reinit_error=True, logging_level=logging.WARNING)
    try:
        serve.start(http_options={"host": host, "port": free})
        serve.run(app, name="leanrec", route_prefix="/")
        for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which takes them for itself
            signal.signal(number, lambda *_: stop.set())
        started(f"http://{host}:{free}")
        stop.wait()
        serve.shutdown()
    finally:
        ray.shutdown()
