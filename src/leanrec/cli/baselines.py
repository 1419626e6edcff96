"""Baselines beside a run, as ``leanrec evaluate --baselines`` tells of them."""

from __future__ import annotations

from typing import Any

from leanrec.cli.output import note, print_table
from leanrec.techniques import filling


def tell_baselines(found: dict[str, Any]) -> None:
    """One line where a table of counts is not clearly below the run."""
    best = max((name for name in found if "lead" in found[name]), key=lambda name: found[name]["metrics"]["ndcg@10"])
    ahead, low, high = found[best]["lead"]
    if low <= 0:
        level = "better than" if high < 0 else "as good as"
        note(
            f"note: recipe {best}, which is counted in seconds, is {level} this run: NDCG@10 "
            f"{found[best]['metrics']['ndcg@10']:.4f}, lead of the run {ahead:+.4f} [{low:+.4f}, {high:+.4f}]; try "
            f"'leanrec train DATA --recipe {best}', or add a table with --technique {filling('sparse')[0]}"
        )


def show_baselines(found: dict[str, Any]) -> None:
    """Baselines and the lead of the run over them, as a table."""
    rows = [
        (name, row["why_not"], "")
        if "why_not" in row
        else (
            name,
            "{:.4f} [{:.4f}, {:.4f}]".format(row["metrics"]["ndcg@10"], *row["ci95"]["ndcg@10"]),
            "{:+.4f} [{:+.4f}, {:+.4f}]".format(*row["lead"]),
        )
        for name, row in found.items()
    ]
    print_table("baselines, counted and not trained", ["recipe", "NDCG@10", "the run leads by [95 %]"], rows)
