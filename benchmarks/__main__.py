"""The command line: run cases, say what is measured, write tables.

    python -m benchmarks list
    python -m benchmarks run canet-shop                               what is missing or stale of a case
    python -m benchmarks run canet-shop --only canet --seeds 0        and what it needs
    python -m benchmarks run canet-shop quality-ml-1m --hours 2       several cases, until the time is over
    python -m benchmarks status canet-shop
    python -m benchmarks tables                                       write them into README.md and docs
    python -m benchmarks tables --check                               or say where one differs from the rows

A run that was killed goes on with the same command. benchmarks/README.md says how a case is written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from benchmarks import rows, tables
from benchmarks.cases import CASES, load, names
from benchmarks.driver import Driver, Places
from benchmarks.state import Results, units
from leanrec.core.errors import LeanrecError


def main(given: list[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 if something is not as it should be, or 2 on bad input."""
    options = _parser().parse_args(given)
    try:
        return options.do(options)
    except LeanrecError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2


def list_cases(options: argparse.Namespace) -> int:
    """Name every case and what it asks."""
    for name in names(options.cases_in):
        print(f"{name:34} {load(name, options.cases_in).about}")
    return 0


def run(options: argparse.Namespace) -> int:
    """Measure what is missing."""
    places = Places(options.logs, options.work, options.results, options.cases_in)
    outcome = Driver(places, options.hours).run(
        [load(name, options.cases_in) for name in options.cases], options.only, options.seeds, options.again
    )
    print(f"measured {len(outcome.measured)}, there before {outcome.before}")
    for name in outcome.not_started:
        print(f"not started: {name}")
    for name, why in outcome.failed.items():
        print(f"failed: {name}: {why}")
    return int(bool(outcome.failed))


def status(options: argparse.Namespace) -> int:
    """Say of every variant what is measured, missing, stale, or of before there were configurations."""
    total: Counter[str] = Counter()
    for name in options.cases or names(options.cases_in):
        case = load(name, options.cases_in)
        results, found = Results(case, options.results), dict[str, Counter[str]]()
        for unit in units(case):
            found.setdefault(unit.variant, Counter())[results.state(unit)] += 1
        for variant, states in found.items():
            total += states
            print(f"{name:34} {variant:28} " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    print("all: " + ", ".join(f"{count} {state}" for state, count in sorted(total.items())))
    return 0


def write_tables(options: argparse.Namespace) -> int:
    """Write tables, values and pictures into documents, or compare them."""
    changed = tables.update(rows.read_all(options.results), options.root, write=not options.check)
    for line in changed:
        print(line)
    if options.check and changed:
        print("python -m benchmarks tables writes them")
    return int(options.check and bool(changed))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=raw)
    parser.add_argument("--results", type=Path, default=rows.RESULTS, help="folder of the rows")
    parser.add_argument("--cases", type=Path, default=CASES, dest="cases_in", help="folder of the cases")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    lists = commands.add_parser("list", help="name every case")
    lists.set_defaults(do=list_cases)
    example = (
        "example: python -m benchmarks run canet-shop --only canet --seeds 0 1 --logs ~/logs --work ~/runs --hours 1"
    )
    runs = commands.add_parser("run", help="measure what is missing or stale", epilog=example)
    runs.add_argument("cases", nargs="+", metavar="CASE")
    runs.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="and what these need")
    runs.add_argument("--seeds", nargs="+", type=int, help="instead of those of the case")
    runs.add_argument(
        "--again", action="store_true", help="measure quality once more; from scratch with another --work"
    )
    runs.add_argument("--hours", type=float, help="start nothing that took longer before than what is left of them")
    runs.add_argument("--logs", type=Path, default=Path(os.environ.get("LEANREC_DATA_DIR", "data")))
    runs.add_argument("--work", type=Path, default=Path("runs"), help="stores, runs and exports, which are used again")
    runs.set_defaults(do=run)
    example = "example: python -m benchmarks status canet-shop skiprec-shop-sasrec"
    states = commands.add_parser("status", help="say what is measured, missing or stale", epilog=example)
    states.add_argument("cases", nargs="*", metavar="CASE", help="all if none is named")
    states.set_defaults(do=status)
    writes = commands.add_parser(
        "tables", help="write tables into documents", epilog="example: python -m benchmarks tables --check"
    )
    writes.add_argument("--check", action="store_true", help="only compare; exits with 1 where a document differs")
    writes.add_argument("--root", type=Path, default=rows.ROOT, help="of the documents")
    writes.set_defaults(do=write_tables)
    return parser


if __name__ == "__main__":
    sys.exit(main())
