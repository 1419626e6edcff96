"""What others do to a server, and what a polite client notices of it, on the loopback.

    python -m benchmarks.commands.serving_faults unknown RUN_OR_EXPORT [--clients 64]
    python -m benchmarks.commands.serving_faults locked RUN_OR_EXPORT [--deadline-ms 200 --locked 10]
    python -m benchmarks.commands.serving_faults reloads RUN_OR_EXPORT [--reloads 100]

``unknown``: half of the clients ask about one new item each time, in turns with all asking about known ones; the figures are
those of the other half. ``locked``: another process holds the SQLite file of sessions while clients send events, or ask by user.
What was acknowledged is then looked for in the file, and what was refused as not stored must not be in it. ``reloads``: so many
SIGHUPs while one client asks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import told
from benchmarks.commands.load import HOST, LOST, Connection, Outcome, closed, requests
from benchmarks.commands.serving import questions, run, served
from leanrec.tasks import open_answering

LATE_MS = 50
"""How much later than its deadline a reply may arrive."""
KNOWN_KEYS = 1000
"""Most popular items that events are drawn from."""


def main() -> None:
    options = arguments()
    where = {"model": options.run.name, "load": round(os.getloadavg()[0], 1), "deadline_ms": options.deadline_ms}
    for row in ROWS[options.what](options):
        told(row | where, BY[options.what])


def unknown(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Clients with known items, beside others that do or do not bring new ones."""
    known, half = requests(questions(options)), options.clients // 2
    new = requests([{"history": [str(uuid.uuid4())], "k": 10} for _ in range(2000)])
    found: dict[str, list[tuple[Outcome, Outcome]]] = {"known": [], "new": []}

    async def both(port: int, others: list[bytes]) -> tuple[Outcome, Outcome]:
        seconds = options.seconds / options.rounds
        return await asyncio.gather(closed(port, known, half, seconds), closed(port, others, half, seconds))

    with served(options) as (port, _):
        run(both(port, known))  # warm
        for _ in range(options.rounds):
            for name, others in (("known", known), ("new", new)):
                found[name].append(run(both(port, others)))
    for name, rounds in found.items():
        polite, others = [one for one, _ in rounds], [one for _, one in rounds]
        yield {
            "others_bring": name,
            "clients": options.clients,
            "answers_per_s": float(np.median([one.served for one in polite])),
            "p50_ms": float(np.median([one.ms(50) for one in polite])),
            "p99_ms": float(np.median([one.ms(99) for one in polite])),
            "others_per_s": float(np.median([sum(one.statuses.values()) / one.seconds for one in others])),
            "others_p99_ms": float(np.median([one.ms(99, None) for one in others])),
            "faults": sum(one.statuses[500] + one.statuses[LOST] for pair in rounds for one in pair),
            "p99_times": float(
                np.median(
                    [one.ms(99) / base.ms(99) for (one, _), (base, _) in zip(rounds, found["known"], strict=True)]
                )
            ),
        }


@dataclass
class Sent:
    """Events of one user, in the order they were sent: an item and how it was replied to."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def wrong(self, kept: Sequence[str]) -> tuple[int, int]:
        """How many acknowledged events are lost, and how many are stored that were refused as not stored, or twice."""
        at, lost = 0, 0
        for item, how in self.events:
            if how == "refused":
                continue
            if at < len(kept) and kept[at] == item:
                at += 1
            elif how == "stored":
                lost += 1
        return lost, len(kept) - at


def locked(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Events and questions by user while another process holds the file."""
    keys = open_answering(options.run).engine.catalog.keys[:KNOWN_KEYS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        sent = [Sent() for _ in range(options.clients)]
        with served(options, "--sessions", f"sqlite:{path}") as (port, _):
            outcomes = run(_under_lock(port, path, sent, keys, options))
        with sqlite3.connect(path) as file:
            kept = {user: json.loads(items) for user, items in file.execute("SELECT user, items FROM users")}
        file.close()
    wrong = [one.wrong(kept.get(f"u{number}", [])) for number, one in enumerate(sent)]
    told = [how for one in sent for _, how in one.events]
    for name, outcome in outcomes.items():
        late = [one * 1000 - options.deadline_ms for some in outcome.latencies.values() for one in some]
        yield {
            "asked": name,
            "clients": options.clients,
            "locked_s": options.locked,
            "replies": sum(outcome.statuses.values()),
            "answered": outcome.statuses[200],
            "refused": outcome.statuses[503],
            "p99_all_ms": outcome.ms(99, None),
            "largest_ms": outcome.ms(100, None),
            "later_than_deadline_and_50_ms": sum(one > LATE_MS for one in late),
            "faults": outcome.statuses[500] + outcome.statuses[LOST],
            "stored": told.count("stored"),
            "not_known": told.count("not known"),
            "lost": sum(lost for lost, _ in wrong),
            "stored_though_refused": sum(more for _, more in wrong),
        }


async def _under_lock(
    port: int, path: Path, sent: list[Sent], keys: Sequence[str], options: argparse.Namespace
) -> dict[str, Outcome]:
    """Load for a third of the time before the lock, and as long behind it."""
    loop, started = asyncio.get_running_loop(), time.perf_counter()
    around = max(2.0, options.locked / 3)
    end = started + options.locked + 2 * around
    outcomes = {"events": Outcome(), "users": Outcome()}

    async def client(number: int) -> None:
        _, connection = await loop.create_connection(Connection, HOST, port)
        turn = 0
        while time.perf_counter() < end:
            asks = turn % 4 == 3  # a question by user after three events
            item = keys[(number * 7919 + turn) % len(keys)]
            body: dict[str, object] = {"user": f"u{number}", "k": 10, **({} if asks else {"items": [item]})}
            (request,) = requests([body], "/v1/recommend" if asks else "/v1/events")
            asked = time.perf_counter()
            status, reply = await connection.ask(request)
            outcomes["users" if asks else "events"].add(status, time.perf_counter() - asked, b"")
            if not asks:
                sent[number].events.append((item, _how(status, reply)))
            if status == LOST:
                _, connection = await loop.create_connection(Connection, HOST, port)
            turn += 1
        if connection.transport is not None:
            connection.transport.close()

    async def lock() -> None:
        await asyncio.sleep(around)
        file = await asyncio.to_thread(sqlite3.connect, path, timeout=60, isolation_level=None, check_same_thread=False)
        await asyncio.to_thread(file.execute, "BEGIN IMMEDIATE")
        await asyncio.sleep(options.locked)
        file.execute("ROLLBACK")
        file.close()

    await asyncio.gather(lock(), *(client(number) for number in range(options.clients)))
    for outcome in outcomes.values():
        outcome.seconds = time.perf_counter() - started
    return outcomes


def _how(status: int, reply: bytes) -> str:
    if status == 200:
        return "stored"
    return "refused" if status != LOST and b"nothing was stored" in reply else "not known"


def reloads(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One client before, while and after SIGHUPs come."""
    sent = requests(questions(options))

    async def hung_up(port: int, pid: int) -> Outcome:
        async def signals() -> None:
            for _ in range(options.reloads):
                os.kill(pid, signal.SIGHUP)
                await asyncio.sleep(options.seconds / 2 / options.reloads)

        outcome, _ = await asyncio.gather(closed(port, sent, 1, options.seconds), signals())
        return outcome

    with served(options) as (port, pid):
        run(closed(port, sent, 1, 2))
        for name, load in (("none", closed(port, sent, 1, options.seconds)), ("hangups", hung_up(port, pid))):
            outcome = run(load)
            yield {
                "while": name,
                "hangups": options.reloads if name == "hangups" else 0,
                "reloads": _reloaded(port),
                "replies": sum(outcome.statuses.values()),
                "p50_ms": outcome.ms(50),
                "p99_ms": outcome.ms(99),
                "largest_ms": outcome.ms(100, None),
                "faults": outcome.statuses[500] + outcome.statuses[LOST],
            }


def _reloaded(port: int) -> int:
    import httpx

    for line in httpx.get(f"http://{HOST}:{port}/metrics", timeout=60).text.splitlines():
        if line.startswith('leanrec_reloads_total{result="done"}'):
            return int(float(line.split()[-1]))
    return 0


BY = {"unknown": ("others_bring",), "locked": ("asked",), "reloads": ("while",)}
"""What tells the rows of a command apart."""
ROWS = {"unknown": unknown, "locked": locked, "reloads": reloads}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=ROWS)
    parser.add_argument("run", type=Path, help="a run or an export")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--reloads", type=int, default=100, help="SIGHUPs, in the first half of the time")
    parser.add_argument("--locked", type=float, default=10, help="seconds that the file is held")
    parser.add_argument("--budget", type=float, help="asked for by every request")
    parser.add_argument("--deadline-ms", type=int, default=1000)
    parser.add_argument("--batch", default="128")
    parser.add_argument("--seconds", type=float, default=20, help="all rounds together")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
