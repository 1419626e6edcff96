"""`leanrec slim` on a log: what it chose, what that saves, whether the promise held on test, and how long it took.

    python -m benchmarks.commands.slim STORE --out DIR [-- --recipe sasrec-amazon --hours 1.2]

A finished search is not repeated, an interrupted one goes on. What follows "--" goes to the command. The promise is a relative loss
of NDCG@10 below 1 % with 95 % confidence, on validation users set apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks.commands import told


def main() -> None:
    options, more = arguments()
    command = [
        sys.executable,
        "-m",
        "leanrec",
        "slim",
        options.store,
        *more,
        "--max-loss",
        "0.01",
        "--out",
        options.out,
    ]
    told(row(json.loads(subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE).stdout)))


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
    """A number with few digits; blank stays blank."""
    return round(number, digits) if isinstance(number, float) else number


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Options, and what follows "--"."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--out", required=True)
    given = sys.argv[1:]
    at = given.index("--") if "--" in given else len(given)
    return parser.parse_args(given[:at]), given[at + 1 :]


if __name__ == "__main__":
    main()
