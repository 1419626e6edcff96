"""Load on a server of this machine: closed (clients that ask again when they are answered) or open (so many requests a second).

Only the loopback is ever asked; every load is bounded in time.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

HOST = "127.0.0.1"
LOST = 0
"""Status of a request that got no reply."""
SPIN = "while True: sum(range(100000))"


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many other processes that compute all the time."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@dataclass
class Outcome:
    """What came of a load.

    Attributes:
        seconds: It lasted.
        statuses: Replies by status.
        latencies: Seconds by status, from when a request was due to its reply.
        flops: Mean cost of the answers, as a share of the full model's.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: dict[int, list[float]] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)

    def add(self, status: int, seconds: float, body: bytes) -> None:
        self.statuses[status] += 1
        self.latencies.setdefault(status, []).append(seconds)
        if status == 200 and self.statuses[200] % 16 == 0 and body.endswith((b"}", b"]")):
            self.ratios.append(json.loads(body)["flops_ratio"])

    def ms(self, percent: float, status: int | None = 200) -> float:
        """A percentile of the latency of replies with a status, or of all."""
        found = [one for key, some in self.latencies.items() if status in (None, key) for one in some]
        return float(np.percentile(found, percent)) * 1000 if found else float("nan")

    @property
    def served(self) -> float:
        """Answers a second."""
        return self.statuses[200] / self.seconds

    @property
    def cost(self) -> float:
        """Mean share of the full model's FLOPs."""
        return float(np.mean(self.ratios)) if self.ratios else float("nan")


class Connection(asyncio.Protocol):
    """One request at a time over a connection that is kept."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.reply: asyncio.Future[tuple[int, bytes]] | None = None
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue]

    def data_received(self, data: bytes) -> None:
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._got.lower().index(b"content-length:") + 15
        length = int(self._got[at : self._got.index(b"\r", at)])
        if len(self._got) >= head + 4 + length and self.reply is not None and not self.reply.done():
            self.reply.set_result((int(self._got[9:12]), self._got[head + 4 :]))
            self._got = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.reply is not None and not self.reply.done():
            self.reply.set_result((LOST, b""))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the reply; `LOST` if there is none."""
        if self.transport is None:
            return LOST, b""
        self.reply = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.reply


def requests(bodies: Sequence[dict[str, object]], path: str = "/v1/recommend") -> list[bytes]:
    """Whole requests, ready to be sent."""
    made = []
    for body in bodies:
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        )
        made.append(head.encode() + b"\r\n\r\n" + content)
    return made


def alone(port: int, sent: Sequence[bytes], seconds: float) -> Outcome:
    """One client over one socket, with as little of its own as can be."""
    outcome, started = Outcome(), time.perf_counter()
    with socket.create_connection((HOST, port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        while (asked := time.perf_counter()) - started < seconds:
            line.sendall(sent[at % len(sent)])
            got = line.recv(2**16)
            head = got.index(b"\r\n\r\n")
            name = got.lower().index(b"content-length:") + 15
            left = head + 4 + int(got[name : got.index(b"\r", name)]) - len(got)
            while left > 0:
                left -= len(line.recv(left))
            outcome.add(int(got[9:12]), time.perf_counter() - asked, got[head + 4 :])
            at += 1
    outcome.seconds = time.perf_counter() - started
    return outcome


async def closed(port: int, sent: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    """So many clients, each of which asks again as soon as it is answered."""
    loop, outcome, started = asyncio.get_running_loop(), Outcome(), time.perf_counter()

    async def client(number: int) -> None:
        at = number * 7919
        _, connection = await loop.create_connection(Connection, HOST, port)
        while (asked := time.perf_counter()) - started < seconds:
            status, body = await connection.ask(sent[at % len(sent)])
            outcome.add(status, time.perf_counter() - asked, body)
            if status == LOST:
                _, connection = await loop.create_connection(Connection, HOST, port)
            at += 1
        if connection.transport is not None:
            connection.transport.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    outcome.seconds = time.perf_counter() - started
    return outcome


class Retrier(asyncio.Protocol):
    """Asks again as soon as there is a reply, whatever it says. Does as little as can be: many share the server's machine."""

    def __init__(self, sent: Sequence[bytes], at: int, statuses: Counter[int]) -> None:
        self.sent, self.at, self.statuses = sent, at, statuses
        self.transport: asyncio.Transport | None = None
        self.ends = False
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue]
        self.ask()

    def ask(self) -> None:
        assert self.transport is not None
        self.at += 1
        self.transport.write(self.sent[self.at % len(self.sent)])

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            self.statuses[int(data[9:12])] += 1
            lower = data.lower()
            name = lower.index(b"content-length:") + 15
            self._left = lower.index(b"\r\n\r\n") + 4 + int(lower[name : lower.index(b"\r", name)])
        self._left -= len(data)
        if self._left == 0 and not self.ends:
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ends:
            self.statuses[LOST] += 1


async def storm(port: int, sent: Sequence[bytes], connections: int, seconds: float) -> tuple[Outcome, Outcome]:
    """Many clients that ask again at once whatever they are told, and one that asks ten times a second and waits as it is told.

    Latencies of the one count from its first try to its answer, waits between tries included; its refusals are counted, too.
    """
    loop, all_, polite = asyncio.get_running_loop(), Outcome(), Outcome()
    many: list[Retrier] = []
    for number in range(connections):
        _, one = await loop.create_connection(lambda at=number: Retrier(sent, at * 7919, all_.statuses), HOST, port)
        many.append(one)
    started = time.perf_counter()
    _, line = await loop.create_connection(Connection, HOST, port)
    number = 0
    while (asked := time.perf_counter()) - started < seconds:
        status, body = await line.ask(sent[number % len(sent)])
        while status != 200 and time.perf_counter() - started < seconds + 10:
            polite.statuses[status] += 1
            if status == LOST:
                _, line = await loop.create_connection(Connection, HOST, port)
            await asyncio.sleep(1)
            status, body = await line.ask(sent[number % len(sent)])
        polite.add(status, time.perf_counter() - asked, body)
        number += 1
        await asyncio.sleep(0.1)
    polite.seconds = all_.seconds = time.perf_counter() - started
    all_.statuses.update(polite.statuses)
    for one in many:
        one.ends = True
        if one.transport is not None:
            one.transport.abort()
    if line.transport is not None:
        line.transport.close()
    return all_, polite


async def open_loop(
    port: int, sent: Sequence[bytes], rate: float, seconds: float, connections: int, spread: np.random.Generator
) -> Outcome:
    """So many requests a second, whether or not others are answered. Latencies count from when a request was due."""
    loop, outcome = asyncio.get_running_loop(), Outcome()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait((await loop.create_connection(Connection, HOST, port))[1])
    due = np.cumsum(spread.exponential(1 / rate, int(rate * seconds)))
    started = time.perf_counter()

    async def one(at: float, request: bytes) -> None:
        connection = await free.get()
        status, body = await connection.ask(request)
        outcome.add(status, time.perf_counter() - started - at, body)
        if status == LOST:
            _, connection = await loop.create_connection(Connection, HOST, port)
        free.put_nowait(connection)

    tasks = []
    for number, at in enumerate(due.tolist()):
        wait = at - (time.perf_counter() - started)
        if wait > 0.001 or number % 64 == 0:
            await asyncio.sleep(max(0.0, wait))
        tasks.append(asyncio.ensure_future(one(at, sent[number % len(sent)])))
    await asyncio.gather(*tasks)
    outcome.seconds = time.perf_counter() - started
    while not free.empty():
        connection = free.get_nowait()
        if connection.transport is not None:
            connection.transport.close()
    return outcome
