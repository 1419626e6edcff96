"""Are answers as quick with no variable set as with the number of threads that is best by hand?

    python -m benchmarks.commands.threads serve RUN_OR_EXPORT                    beside 0, 1 and 2 busy processes
    python -m benchmarks.commands.threads everyone RUN_OR_EXPORT --data STORE    beside 1 busy process
    python -m benchmarks.commands.threads serve RUN_OR_EXPORT --quota            a quota of one processor's time, nothing beside it

``serve``: one client asks `leanrec serve`, one request after the other, each with a history of 9 items. ``everyone``: a Python
program asks for the ten best items of all users of a store in one call, again and again.

As it comes, no variable about threads is set; by hand, OMP_NUM_THREADS is. All of them are up at the same time, each in a process
of its own, and are asked in turns. ``--quota`` gives each a control group of its own where groups can be made here, and else
one core by affinity; the row says which.

Of each setting: milliseconds, and how many times those of the best setting by hand they are (`times`), both as medians
over rounds; `low` and `high` are the 95 % interval of the median of `times`, by bootstrap over rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import told
from benchmarks.commands.load import alone, busy, requests
from benchmarks.commands.serving import questions, served

AS_IT_COMES = "as it comes"
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS")
ITEMS = 9
BLOCKS = 5
"""Turns of a server in a round."""
GROUPS = (
    ("v1", Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}),
    ("v2", Path("/sys/fs/cgroup"), {"cpu.max": "100000 100000"}),
)
"""Where control groups are made, and what gives one a processor's time."""
EVERYONE = """
import sys, time
from pathlib import Path
from leanrec.tasks import open_answering
answering = open_answering(Path(sys.argv[1]))
store = answering.store(Path(sys.argv[2]) if sys.argv[2:] else None)
histories = [store.history(user) for user in range(store.num_users)]
for _ in sys.stdin:
    started = time.perf_counter()
    answering.engine.recommend_ids(histories, min(10, store.num_items))
    print(time.perf_counter() - started, flush=True)
"""

Ask = Callable[[], list[float]]
"""Asks one setting, and returns the seconds of every answer."""


def main() -> None:
    options = arguments()
    ways = {AS_IT_COMES: ["env", *(word for name in VARIABLES for word in ("-u", name))]}
    ways |= {f"OMP_NUM_THREADS={count}": [*ways[AS_IT_COMES], f"OMP_NUM_THREADS={count}"] for count in options.by_hand}
    asked, percents, usual = ASKED[options.what]
    for count in options.busy or ([0] if options.quota else usual):
        where = {"model": options.run.name, "load": round(os.getloadavg()[0], 1)}
        with ExitStack() as stack:
            stack.enter_context(busy(count))
            limits = {way: stack.enter_context(limited()) if options.quota else ("none", []) for way in ways}
            asks = {way: stack.enter_context(asked(options, [*limits[way][1], *ways[way]])) for way in ways}
            for ask in asks.values():
                ask()  # the first answers are slower
            rounds = in_turns(asks, percents, options, f"{options.what}, {count} busy")
        for way, row in compared(rounds):
            told({"busy": count, "quota": limits[way][0], "setting": way} | row | where, ("busy", "quota", "setting"))


def in_turns(
    asks: Mapping[str, Ask], percents: Mapping[str, float], options: argparse.Namespace, what: str
) -> dict[str, list[dict[str, float]]]:
    """Percentiles in milliseconds of every setting and round, by name; a line on stderr for each round."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in asks}
    order = deque(asks)
    for number in range(options.rounds):
        times: dict[str, list[float]] = {way: [] for way in asks}
        for _ in range(BLOCKS if options.what == "serve" else 1):
            for way in order:
                times[way] += asks[way]()
            order.rotate(-1)
        for way, seconds in times.items():
            found[way].append({name: 1000 * float(np.percentile(seconds, at)) for name, at in percents.items()})
        told = (f"{way}: {' / '.join(f'{ms:.2f}' for ms in found[way][-1].values())} ms" for way in asks)
        print(f"{what}, round {number + 1} of {options.rounds}: {', '.join(told)}", file=sys.stderr, flush=True)
    return found


def compared(rounds: Mapping[str, Sequence[dict[str, float]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a row says of each setting: its figures, and their ratios to those of the best setting by hand."""
    rng = np.random.default_rng(0)
    for way, own in rounds.items():
        row: dict[str, Any] = {"rounds": len(own)}
        for name in own[0]:
            series = {other: np.array([one[name] for one in some]) for other, some in rounds.items()}
            times = series[way] / min((series[other] for other in rounds if other != AS_IT_COMES), key=np.median)
            low, high = np.percentile(np.median(rng.choice(times, (2000, len(times))), axis=1), (2.5, 97.5))
            row |= {f"{name}_ms": float(np.median(series[way])), f"{name}_times": float(np.median(times))}
            row |= {f"{name}_low": float(low), f"{name}_high": float(high)}
        yield way, row


@contextmanager
def serving(options: argparse.Namespace, prefix: Sequence[str]) -> Iterator[Ask]:
    """`leanrec serve`, asked by one client."""
    sent, turns = requests(questions(options, ITEMS, ITEMS)), BLOCKS * options.rounds * (1 + len(options.by_hand))

    def ask() -> list[float]:
        outcome = alone(port, sent, options.seconds / turns)
        assert set(outcome.statuses) == {200}, outcome.statuses
        return outcome.latencies[200]

    with served(options, prefix=prefix) as (port, _):
        yield ask


@contextmanager
def everyone(options: argparse.Namespace, prefix: Sequence[str]) -> Iterator[Ask]:
    """A Python program that asks for all users at once."""
    command = [*prefix, sys.executable, "-c", EVERYONE, str(options.run)]
    command += [str(options.data)] if options.data else []

    def ask() -> list[float]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("again\n")
        process.stdin.flush()
        found = process.stdout.readline()
        if not found:
            raise SystemExit(f"expected the time of an answer for all users of {options.run}, got the error above")
        return [float(found)]

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield ask
        finally:
            process.kill()


@contextmanager
def limited() -> Iterator[tuple[str, list[str]]]:
    """How a process gets the time of one processor only, and the prefix of a command that does."""
    for kind, root, limits in GROUPS:
        group = made(root, limits)
        if group is not None:
            try:
                yield f"cgroup {kind}", ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
            finally:
                group.rmdir()
            return
    yield "one core by affinity", ["taskset", "-c", str(max(os.sched_getaffinity(0)))]


def made(root: Path, limits: Mapping[str, str]) -> Path | None:
    """A new control group; None where it cannot be made."""
    group = root / f"leanrec-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        for file, text in limits.items():
            with (group / file).open("r+") as setting:  # does not make the file: outside of a group there is none
                setting.write(text)
    except OSError:
        group.rmdir()
        return None
    return group


ASKED = {"serve": (serving, {"p50": 50, "p99": 99}, [0, 1, 2]), "everyone": (everyone, {"wall": 50}, [1])}
"""What is asked, which percentiles of its times are told, and beside how many busy processes it usually is."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=ASKED)
    parser.add_argument("run", type=Path, help="a run or an export")
    parser.add_argument("--data", type=Path, help="store of the users, for everyone; that of the run, if not given")
    parser.add_argument("--quota", action="store_true", help="one processor's time for each setting")
    parser.add_argument("--busy", type=int, nargs="+", help="numbers of busy processes")
    parser.add_argument("--by-hand", type=int, nargs="+", default=[1, 2], help="values of OMP_NUM_THREADS")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--seconds", type=float, default=70, help="serve: all rounds beside one number of busy processes"
    )
    parser.add_argument("--batch", default="128")
    parser.add_argument("--deadline-ms", type=int, default=1000)
    parser.set_defaults(budget=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
