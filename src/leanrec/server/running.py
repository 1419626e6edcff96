"""Run the application under uvicorn: signals, an orderly stop, reloads."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from leanrec.core.errors import ConfigError
from leanrec.server.app import make_app
from leanrec.server.closing import wait_for_backlog
from leanrec.server.hangup import Hangup
from leanrec.server.live import settle
from leanrec.server.problems import Refusal
from leanrec.server.service import Service
from leanrec.server.turnstile import Turnstile

_SWITCH = 0.0005
"""Seconds after which the worker's thread hands the interpreter to the loop."""

_OTHER_FILES = 128
"""Files that a server may open beside its connections."""

_ACCEPTED = 256
"""Most connections that are accepted in one go."""

_log = logging.getLogger("leanrec.server")


class Server(uvicorn.Server):
    """uvicorn's server, with another way to stop and a reload.

    On the first signal to stop it says that it is not ready, goes on for ``drain_s`` seconds, accepts no new connections, and
    answers every request that it has taken. A second signal stops it at once. SIGHUP opens the run or export anew.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None], hangup: Hangup | None
    ) -> None:
        super().__init__(config)
        self.service, self._started, self._hangup = service, started, hangup
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._listening = sockets or []
        if self.should_exit:
            return
        self._started()
        if self._hangup is not None:
            self._hangup.call(self._hung_up)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, or stop at once. uvicorn would raise the signal again in the end, which would end the process by it."""
        if self._loop is None or not self.service.ready:
            self.should_exit = self.force_exit = True
            return
        self.service.ready = False
        self._loop.call_soon_threadsafe(lambda: self._do(self._drain()))

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: accept clients; every fifth time also end connections that take too long."""
        self._accept()
        if counter % 5 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                connection.expire(now)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        return await super().on_tick(counter)

    def _accept(self) -> None:
        """Accept clients that have connected. The loop itself accepts one in each turn, and under load its turns are long."""
        for listening in self._listening:
            for _ in range(_ACCEPTED):
                try:
                    line, _ = listening.accept()
                except OSError:
                    break
                line.setblocking(False)
                self._do(self._connect(line))

    async def _connect(self, line: socket.socket) -> None:
        with suppress(OSError):  # it has left
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, line)

    def _protocol(self) -> asyncio.Protocol:
        """Make a protocol as `uvicorn.Server` does."""
        make: Any = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept clients that have connected, answer what was asked, and end."""
        for listening in sockets or ():
            await wait_for_backlog(listening)
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        _log.warning("draining: requests are taken for %g s more", self.service.settings.drain_s)
        await asyncio.sleep(self.service.settings.drain_s)
        self.should_exit = True

    def _hung_up(self) -> None:
        """Called by the handler of SIGHUP, possibly after the loop has ended."""
        if self._loop is not None and self.service.ready:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(lambda: self._do(self._reload()))

    async def _reload(self) -> None:
        with suppress(Refusal):  # it is in the log
            await self.service.reload()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: The address is taken, or not one of this machine.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen at {host}:{port}: {error}; choose others with --host and --port") from error


def raise_file_limit(connections: int) -> None:
    """Raise the limit of open files for so many connections and the files beside them, as far as the system allows."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if least != resource.RLIM_INFINITY and least < wanted:
        allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
        if allowed < wanted:
            _log.warning("expected %d open files for --connections %d, got at most %d", wanted, connections, allowed)


def serve_until_stopped(
    service: Service, at: socket.socket, started: Callable[[], None], hangup: Hangup | None = None
) -> None:
    """Serve until a signal says to stop.

    Args:
        service: What to serve.
        at: Listens.
        started: Called when requests are taken.
        hangup: Catches SIGHUP, which asks for a reload.
    """
    config = uvicorn.Config(
        make_app(service),
        http=partial(Turnstile, service),  # pyright: ignore[reportArgumentType]
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, -(-service.settings.deadline_ms // 1000) + 1),
    )
    raise_file_limit(service.settings.connections)
    sys.setswitchinterval(_SWITCH)
    settle()
    Server(config, service, started, hangup).run(sockets=[at])
