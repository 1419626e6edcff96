"""The command ``leanrec serve``, which is also ``python -m leanrec.server`` where torch and polars are not installed."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from leanrec.core.errors import ConfigError
from leanrec.server.hangup import Hangup
from leanrec.server.settings import Settings

LOCAL = ("127.0.0.1", "::1", "localhost")


def serve(
    run: Annotated[Path, typer.Argument(help="A run or an export.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    sessions: Annotated[
        str,
        typer.Option(
            envvar="LEANREC_SESSIONS",
            help="memory, sqlite:FILE or redis://HOST:PORT/DB; set the variable if the address has a password.",
        ),
    ] = "memory",
    adaptive_budget: Annotated[
        float | None,
        typer.Option(
            help="Under load the mean cost may fall to this share of the full model's, before anybody is refused."
        ),
    ] = None,
    adaptive_wait_ms: Annotated[float, typer.Option(help="Wait in the queue at which that floor is reached.")] = 50.0,
    gather_ms: Annotated[float, typer.Option(help="Longest time to wait for others, while several clients ask.")] = 2.0,
    batch: Annotated[int, typer.Option(help="Most users answered together.")] = 128,
    queue: Annotated[int, typer.Option(help="Most users that wait; more are refused.")] = 2048,
    deadline_ms: Annotated[int, typer.Option(help="Longest time until an answer or a refusal.")] = 1000,
    users: Annotated[int, typer.Option(help="Most users of a request.")] = 256,
    k: Annotated[int, typer.Option("-k", "--k", help="Most items of a request.")] = 1000,
    history: Annotated[int, typer.Option(help="Most items of a history, allow or deny list.")] = 4096,
    body_bytes: Annotated[int, typer.Option(help="Largest body.")] = 2**20,
    header_bytes: Annotated[int, typer.Option(help="Largest path and headers of a request.")] = 2**16,
    header_s: Annotated[float, typer.Option(help="Longest time until they have arrived.")] = 10.0,
    body_s: Annotated[float, typer.Option(help="Longest time until a body has arrived.")] = 30.0,
    connections: Annotated[int, typer.Option(help="Most clients connected at once; more are refused.")] = 8192,
    session_mb: Annotated[int, typer.Option(help="Memory for what makes an event cost one step.")] = 256,
    expand: Annotated[
        bool, typer.Option("--expand", help="Write an export's compressed item table out in memory: faster, larger.")
    ] = False,
    learn: Annotated[
        bool, typer.Option("--learn", help="Learn from events as they come which item follows which; not the network.")
    ] = False,
    learn_days: Annotated[float, typer.Option(help="Days after which an event that was learned is worth half.")] = 7.0,
    learn_events: Annotated[int, typer.Option(help="Newest requests with events that are kept for it.")] = 100_000,
    learn_rows: Annotated[int, typer.Option(help="Most items of which something is learned.")] = 20_000,
    learn_entries: Annotated[int, typer.Option(help="Most new followers that are learned of an item.")] = 32,
    trust: Annotated[
        bool, typer.Option("--trust", help="Open a pt2 export, too: only one of your own, since it can run any code.")
    ] = False,
    drain_s: Annotated[float, typer.Option(help="Time to go on after a signal to stop.")] = 0.0,
    api_key: Annotated[
        str, typer.Option(envvar="LEANREC_API_KEY", help="Wanted of every request to /v1.", show_default=False)
    ] = "",
    admin_key: Annotated[
        str, typer.Option(envvar="LEANREC_ADMIN_KEY", help="Wanted of requests to reload.", show_default=False)
    ] = "",
    ray: Annotated[bool, typer.Option("--ray", help="Deploy on Ray Serve.")] = False,
    replicas: Annotated[int, typer.Option(help="Processes, with --ray.", min=1)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Say where it listens as one JSON object on stdout.")] = False,
) -> None:
    """Answer over HTTP, with a page at / to see it think.

    Example: leanrec serve run --port 8000

    Example: leanrec serve exported --adaptive-budget 0.3 --sessions sqlite:sessions.db

    Example: leanrec serve exported --sessions sqlite:sessions.db --learn
    """
    given = locals()
    settings = Settings(**{field.name: given[field.name] for field in fields(Settings)})
    if host not in LOCAL and not api_key:
        _note(f"warning: everybody who reaches {host} may ask; set LEANREC_API_KEY, or listen at 127.0.0.1")
    if ray:
        _needed()
        from leanrec.server.ray import deploy

        deploy(run, sessions, settings, host, port, replicas, lambda url: _tell(url, {"replicas": replicas}, as_json))
        return
    with Hangup() as hangup:
        _serve(run, host, port, sessions, settings, as_json, hangup)


def _serve(run: Path, host: str, port: int, sessions: str, settings: Settings, as_json: bool, hangup: Hangup) -> None:
    _needed()
    from leanrec.server.live import open_live
    from leanrec.server.running import listen, serve_until_stopped
    from leanrec.server.service import Service
    from leanrec.server.stores import open_store

    live = open_live(run, settings)
    service = Service(live, open_store(sessions), settings)
    shown = f"[{host}]" if ":" in host else host
    with listen(host, port) as at:
        url = f"http://{shown}:{at.getsockname()[1]}"
        serve_until_stopped(service, at, lambda: _tell(url, {"model": live.digest}, as_json), hangup)


def _needed() -> None:
    try:
        import httptools
        import prometheus_client
        import starlette
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            f"expected the package {error.name} to serve, got none; pip install 'leanrec[serve]'"
        ) from error
    assert httptools and prometheus_client and starlette and uvicorn


def _tell(url: str, more: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"url": url, **more}) + "\n")
        sys.stdout.flush()
    else:
        _note(f"serving at {url}; stop with Ctrl-C")


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
