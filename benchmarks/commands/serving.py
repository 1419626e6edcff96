"""The server's figures, on the loopback.

    python -m benchmarks.commands.serving overhead RUN_OR_EXPORT
    python -m benchmarks.commands.serving clients RUN_OR_EXPORT [--clients 64]
    python -m benchmarks.commands.serving overload RUN [--budget 1.0 --floor 0.25 --deadline-ms 250]
    python -m benchmarks.commands.serving bursts RUN_OR_EXPORT [--minutes 10]
    python -m benchmarks.commands.serving storm RUN_OR_EXPORT --deadline-ms 500 --seconds 60 [--retriers 1500 --rounds 1]

``overhead``: one client, beside the bare engine in this process. ``clients``: many, beside a plain FastAPI handler
(`plain_server.py`), by the clock and by the time that the servers compute, which does not depend on who else uses the machine.
``overload``: three times what the server can do, with and without --adaptive-budget, at the same deadline. ``bursts``: overload
for five seconds and five of rest, again and again, with the memory of the server. ``storm``: clients that ask again at once
when they are refused, one that does as it is told, and what the server answers to others from one second after the storm on.
Everything that is compared takes turns.
Histories are drawn by popularity, 5 to 50 items.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.commands import told
from benchmarks.commands.load import HOST, LOST, Outcome, alone, closed, open_loop, requests, storm
from leanrec.tasks import open_answering

HERE = Path(__file__).parent
TIMES = 3
"""Overload: how many times what the server can do."""


def main() -> None:
    options = arguments()
    where = {"model": options.run.name, "load": round(os.getloadavg()[0], 1), "batch": int(options.batch)}
    for row in ROWS[options.what](options):
        told(row | where, BY[options.what])


def overhead(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One client, in turns with the engine."""
    engine, bodies = open_answering(options.run).engine, questions(options)
    with served(options) as (port, _):
        engine_ms: list[float] = []
        server_ms: list[float] = []
        for turn in range(options.rounds):
            some = bodies[turn % 5 :: 5]
            for body in some:
                started = time.perf_counter()
                engine.recommend([body["history"]], 10, budget=options.budget)
                engine_ms.append((time.perf_counter() - started) * 1000)
            outcome = alone(port, requests(some), options.seconds / options.rounds)
            server_ms += [one * 1000 for one in outcome.latencies[200]]
    for percent in (50, 99):
        bare, whole = (float(np.percentile(times, percent)) for times in (engine_ms, server_ms))
        yield {"percentile": percent, "engine_ms": bare, "server_ms": whole, "overhead_ms": whole - bare}


def clients(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Many clients, in turns with a plain handler."""
    sent = requests(questions(options))
    found: dict[str, list[tuple[float, float, float, float]]] = {"leanrec": [], "plain": []}
    with served(options) as ours, plain(options) as theirs:
        for _ in range(options.rounds):
            for name, (port, pid) in (("leanrec", ours), ("plain", theirs)):
                before = cpu_ms(pid)
                outcome = run(closed(port, sent, options.clients, options.seconds / options.rounds))
                assert set(outcome.statuses) == {200}, outcome.statuses
                each = (cpu_ms(pid) - before) / outcome.statuses[200]
                found[name].append((outcome.served, outcome.ms(50), outcome.ms(99), each))
    pairs = {name: list(zip(rounds, found["plain"], strict=True)) for name, rounds in found.items()}
    for name, rounds in found.items():
        rate, p50, p99, each = np.median(rounds, axis=0).tolist()
        yield {
            "server": name,
            "clients": options.clients,
            "requests_per_s": rate,
            "p50_ms": p50,
            "p99_ms": p99,
            "cpu_ms": each,
            "times": float(np.median([one[0] / other[0] for one, other in pairs[name]])),
            "times_by_cpu": float(np.median([other[3] / one[3] for one, other in pairs[name]])),
        }


def overload(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Three times the capacity, with and without a budget that adapts."""
    sent, spread = requests(questions(options)), np.random.default_rng(0)
    found: dict[str, list[Outcome]] = {"fixed": [], "adaptive": []}
    adaptive = ("--adaptive-budget", str(options.floor), "--adaptive-wait-ms", str(options.wait_ms))
    with ExitStack() as stack:
        ports = {
            "fixed": stack.enter_context(served(options))[0],
            "adaptive": stack.enter_context(served(options, *adaptive))[0],
        }
        capacity = able(ports["fixed"], sent, options)
        for _ in range(options.rounds):
            for name, port in ports.items():
                seconds = options.seconds / options.rounds
                load = open_loop(port, sent, TIMES * capacity, seconds, options.connections, spread)
                found[name].append(run(load))
    for name, rounds in found.items():
        total = sum((outcome.statuses for outcome in rounds), start=rounds[0].statuses.__class__())
        yield {
            "budget": name,
            "capacity_per_s": capacity,
            "offered_per_s": TIMES * capacity,
            "served_per_s": float(np.median([outcome.served for outcome in rounds])),
            "p50_ms": float(np.median([outcome.ms(50) for outcome in rounds])),
            "p99_ms": float(np.median([outcome.ms(99) for outcome in rounds])),
            "p99_all_ms": float(np.median([outcome.ms(99, None) for outcome in rounds])),
            "mean_cost": float(np.mean([outcome.cost for outcome in rounds])),
            "deadline_ms": options.deadline_ms,
            "refused": total[429],
            "too_late": total[504],
            "faults": total[500] + total[LOST],
            "times": float(
                np.median([one.served / other.served for one, other in zip(rounds, found["fixed"], strict=True)])
            ),
        }


def bursts(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Overload and rest, with the server's memory."""
    sent, spread = requests(questions(options)), np.random.default_rng(0)
    with served(options) as (port, pid):
        capacity = able(port, sent, options)
        end, turn = time.monotonic() + 60 * options.minutes, 0
        while time.monotonic() < end:
            outcome = run(open_loop(port, sent, TIMES * capacity, 5, options.connections, spread))
            time.sleep(5)
            turn += 1
            yield {
                "burst": turn,
                "offered_per_s": TIMES * capacity,
                "served_per_s": outcome.served,
                "p99_all_ms": outcome.ms(99, None),
                "largest_ms": outcome.ms(100, None),
                "refused": outcome.statuses[429],
                "too_late": outcome.statuses[504],
                "faults": outcome.statuses[500] + outcome.statuses[LOST],
                "deadline_ms": options.deadline_ms,
                "rss_mb": resident(pid),
            }


def storms(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Clients that retry at once."""
    sent = requests(questions(options))
    with served(options) as (port, pid):
        capacity = able(port, sent, options)
        for turn in range(options.rounds):
            before, own = cpu_ms(pid), time.process_time()
            everybody, polite = run(storm(port, sent, options.retriers, options.seconds))
            busy, load = cpu_ms(pid) - before, time.process_time() - own
            run(closed(port, sent, options.clients, 1))
            after = run(closed(port, sent, options.clients, 2)).served
            yield {
                "storm": turn,
                "retriers": options.retriers,
                "capacity_per_s": capacity,
                "served_per_s": everybody.served,
                "times": everybody.served / capacity,
                "refused_per_s": everybody.statuses[429] / everybody.seconds,
                "too_late": everybody.statuses[504],
                "faults": everybody.statuses[500] + everybody.statuses[LOST],
                "polite_p50_ms": polite.ms(50),
                "polite_p99_ms": polite.ms(99),
                "polite_refused": polite.statuses[429] + polite.statuses[504],
                "after_1s_times": after / capacity,
                "server_cpu": busy / 1000 / everybody.seconds,
                "load_cpu": load / everybody.seconds,
                "deadline_ms": options.deadline_ms,
                "rss_mb": resident(pid),
            }


def able(port: int, sent: list[bytes], options: argparse.Namespace) -> float:
    """What a server serves in a second, once it is warm."""
    return [run(closed(port, sent, options.clients, 4)).served for _ in range(2)][1]


def run(load: Any) -> Any:
    gc.collect()
    gc.freeze()  # the load must not be late for a collection of what was imported
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load)


def questions(options: argparse.Namespace, least: int = 5, most: int = 50) -> list[dict[str, Any]]:
    """Requests of 500 users, by popularity, with ``least`` to ``most`` items."""
    keys, rng = open_answering(options.run).engine.catalog.keys, np.random.default_rng(0)
    share = 1 / np.arange(1, len(keys) + 1)
    share /= share.sum()
    histories = [rng.choice(len(keys), int(rng.integers(least, most + 1)), p=share) for _ in range(500)]
    more = {} if options.budget is None else {"budget": options.budget}
    return [{"history": [keys[item] for item in history], "k": 10, **more} for history in histories]


@contextmanager
def served(options: argparse.Namespace, *more: str, prefix: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """Port and process of `leanrec serve`; ``prefix`` is a command that sets something and goes over to it."""
    command = [
        *prefix,
        sys.executable,
        "-m",
        "leanrec",
        "serve",
        str(options.run),
        "--port",
        "0",
        "--json",
        "--batch",
        options.batch,
    ]
    command += ["--deadline-ms", str(options.deadline_ms), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(json.loads(process.stdout.readline())["url"].rsplit(":", 1)[1]), process.pid
        finally:
            process.terminate()


@contextmanager
def plain(options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """Port and process of a plain handler."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, str(HERE / "plain_server.py"), str(options.run), str(port)]) as process:
        try:
            _reached(port)
            yield port, process.pid
        finally:
            process.terminate()


def _reached(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection((HOST, port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the plain server does not start")


def cpu_ms(pid: int) -> float:
    """Time that a process has computed: what it costs, whatever else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MB of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


BY = {
    "overhead": ("percentile",),
    "clients": ("server",),
    "overload": ("budget",),
    "bursts": ("burst",),
    "storm": ("storm",),
}
"""What tells the rows of a command apart."""
ROWS = {"overhead": overhead, "clients": clients, "overload": overload, "bursts": bursts, "storm": storms}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=ROWS)
    parser.add_argument("run", type=Path, help="a run or an export")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--retriers", type=int, default=1500, help="of a storm")
    parser.add_argument("--connections", type=int, default=4000, help="of an open load; more than may wait at once")
    parser.add_argument("--budget", type=float, help="asked for by every request")
    parser.add_argument("--floor", type=float, default=0.25, help="of --adaptive-budget")
    parser.add_argument("--wait-ms", type=float, default=50, help="of --adaptive-budget")
    parser.add_argument("--deadline-ms", type=int, default=1000)
    parser.add_argument("--batch", default="128")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=40, help="all rounds of one server together")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
