"""A server in a process of its own, as ``leanrec serve`` starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

PATIENCE = 120.0
"""Seconds that a busy machine may take for anything."""


class Serving:
    """A running server and a client of it."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.process, self.told = process, told
        self.url: str = told["url"]
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.http.post(path, json=body, **more)

    def until(self, path: str, wanted: Callable[[httpx.Response], bool]) -> httpx.Response:
        """Ask until the reply is as wanted."""
        end = time.monotonic() + PATIENCE
        while not wanted(reply := self.http.get(path)):
            assert time.monotonic() < end, reply.text
            time.sleep(0.02)
        return reply

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(PATIENCE)


@contextmanager
def serving(*arguments: object, module: str = "leanrec", env: dict[str, str] | None = None) -> Iterator[Serving]:
    """Serve on a free port until the block ends."""
    words = ["serve"] if module == "leanrec" else []
    command = [sys.executable, "-m", module, *words, *map(str, arguments), "--json"]
    if "--port" not in command:
        command += ["--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        server = Serving(process, json.loads(line))
        yield server
        server.http.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
