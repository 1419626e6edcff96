"""The measured time of a lean model against a full one: as runs, and as ONNX exports.

    python benchmarks/served_time.py RUNS/games-sasrec-1 --full skiprec-full --lean skiprec-menu-7 --budgets 0.3
    python benchmarks/served_time.py RUNS/games-nextitnet-1 --full teacher --lean searched

Whole requests, policy and head included, on histories of the case's store; the two models take turns, --seconds a batch size. One
CSV row for runs and exports, for one user and 256, and for each budget of a routed model. Run nothing else beside it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from leanrec import tasks
from leanrec.build import open_run
from leanrec.cost.machine import machine
from leanrec.tasks.exporting import export_run
from rows import append

BATCHES = (1, 256)


def main() -> None:
    options = arguments()
    case, seed = options.folder.name.rsplit("-", 1)
    full, lean = (open_run(options.folder / name) for name in (options.full, options.lean))
    with tempfile.TemporaryDirectory() as folder:
        served = {"run": (full.path, lean.path)}
        if not options.runs:
            served["export"] = (Path(folder) / "full", Path(folder) / "lean")
            for run, path in zip((full, lean), served["export"], strict=True):
                export_run(run, path, "onnx")
        for budget in options.budgets:
            for form, paths in served.items():
                for row in timed(paths, full.store().path, budget, options.seconds):
                    head = {"data": case, "seed": seed, "lean": options.lean, "budget": budget, "served": form}
                    append(options.out, head | row | machine())


def timed(paths: tuple[Path, Path], store: Path, budget: float | None, seconds: float) -> list[dict[str, Any]]:
    """Columns of every batch size."""
    answering = [tasks.open_answering(path) for path in paths]
    found = tasks.run_bench(answering, store, BATCHES, seconds, 10, budget)
    times = {(row.run, row.batch): row for row in found.rows}
    ratios = {(ratio.run, ratio.batch): ratio for ratio in found.ratios}
    rows = []
    for batch in BATCHES:
        full, lean = (times[str(path), batch] for path in paths)
        ratio = ratios[str(paths[1]), batch]
        row: dict[str, Any] = {"batch": batch}
        row |= {"full p50 ms": round(full.p50_ms, 3), "full p99 ms": round(full.p99_ms, 3)}
        row |= {"lean p50 ms": round(lean.p50_ms, 3), "lean p99 ms": round(lean.p99_ms, 3)}
        row |= {"times as fast, p50": round(ratio.p50, 3), "times as fast, users/s": round(ratio.users_per_s, 3)}
        rows.append(row)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a case and a seed, in the --work of a benchmark")
    parser.add_argument("--full", required=True, help="a run in that folder")
    parser.add_argument("--lean", required=True, help="another")
    parser.add_argument("--budgets", nargs="+", type=float, default=[None], help="of the lean one, if it is routed")
    parser.add_argument("--runs", action="store_true", help="not the exports")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each batch size")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
