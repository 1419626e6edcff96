"""`leanrec slim` on public logs: what it chose, what that saves, whether the promise held on test, and how long it took.

    python benchmarks/slim.py --logs DIR --work DIR [--only beauty ...]

One CSV row a log; a finished search is not repeated, an interrupted one goes on. Whatever differs from the defaults of the command
is in `CASES`. The promise is a relative loss of NDCG@10 below 1 % with 95 % confidence, on validation users set apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from leanrec.cost.machine import machine
from routed import store_of
from rows import append

FEW = ["--techniques", "canet,cprec"]
"""Two cores train no more in the time that they have."""
STRAIGHT = ["train.patience=0", "train.plateau=0", "train.schedule=linear"]
CASES = {
    "ml-1m": ["--recipe", "sasrec-ml-1m", *FEW, "--hours", "0.6", "--export", "none", "train.epochs=8", *STRAIGHT],
    "beauty": ["--recipe", "sasrec-amazon", *FEW, "--hours", "1.2"],
    "games": [
        *("--recipe", "sasrec-amazon-sampled", *FEW, "--hours", "0.6"),
        *("train.epochs=24", "train.batch_users=128", *STRAIGHT),
    ],
    "online-retail": ["--recipe", "sasrec-online-retail", *FEW, "--hours", "0.5", "train.epochs=10"],
}


def main() -> None:
    options = arguments()
    for name in options.only or CASES:
        store = store_of(name, options)
        command = [sys.executable, "-m", "leanrec", "slim", str(store.path), *CASES[name], "--max-loss", "0.01"]
        command += ["--out", str(options.work / "slim" / name), "--json"]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        append(options.out, {"data": name} | row(found) | machine())


def row(found: dict[str, Any]) -> dict[str, Any]:
    """What a search ended with."""
    chosen, times, loss = found["chosen"] or {}, found["times"] or {}, found["test_loss"] or {}
    first = found["proposals"][0]["loss"] if found["proposals"] else {}
    low, high = loss.get("ci95", ("", ""))
    return {
        "chosen": chosen.get("name", ""),
        "budget": chosen.get("budget", ""),
        "ndcg@10": rounded(chosen.get("metrics", {}).get("ndcg@10", ""), 5),
        "full ndcg@10": rounded(found["baseline"]["metrics"]["ndcg@10"], 5),
        "test loss": rounded(loss.get("mean", "")),
        "test loss from": rounded(low),
        "test loss to": rounded(high),
        "times fewer flops": rounded(times.get("flops", ""), 2),
        "times smaller": rounded(times.get("bytes", ""), 2),
        "times as fast, p99": rounded(times.get("p99", ""), 2),
        "surest loses less than": rounded(first.get("upper", "")),
        **{f"users to {part}": count for part, count in found["users"].items()},
        "seconds": round(sum(found["seconds"].values())),
        "abandoned or skipped": " ".join(
            t["name"] for t in found["candidates"] if t["status"] in ("abandoned", "skipped")
        ),
        "not tried for time": " ".join(t["name"] for t in found["candidates"] if t["status"] == "no time"),
    }


def rounded(number: Any, digits: int = 4) -> Any:
    """A number for the CSV; blank stays blank."""
    return round(number, digits) if isinstance(number, float) else number


def arguments() -> argparse.Namespace:
    found = machine()
    default = f"benchmarks/results/slim-{found['date']}-cpu-torch{found['torch']}.csv"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path(default))
    parser.add_argument("--only", nargs="*", choices=CASES, default=[])
    return parser.parse_args()


if __name__ == "__main__":
    main()
