"""Baselines beside a run, as ``leanrec evaluate --baselines`` tells of them."""

from __future__ import annotations

from typing import Any

from leanrec.cli.output import note, print_table
from leanrec.tasks.baselines import baseline_rows
from leanrec.tasks.words import ahead_by
from leanrec.techniques import filling


def tell_baselines(found: dict[str, Any]) -> None:
    """One line where a table of counts is not clearly below the run."""
    best = max((name for name in found if "lead" in found[name]), key=lambda name: found[name]["metrics"]["ndcg@10"])
    _, low, high = found[best]["lead"]
    if low <= 0:
        level = "better than" if high < 0 else "as good as"
        note(
            f"note: recipe {best}, which is counted in seconds, is {level} this run: NDCG@10 "
            f"{found[best]['metrics']['ndcg@10']:.4f}, lead of the run {ahead_by(*found[best]['lead'])}; try "
            f"'leanrec train DATA --recipe {best}', or add a table with --technique {filling('sparse')[0]}"
        )


def show_baselines(found: dict[str, Any]) -> None:
    """Baselines and the lead of the run over them, as a table."""
    print_table(
        "baselines, counted and not trained",
        ["recipe", "NDCG@10 [95 %]", "HR@10", "the run leads by [95 %]"],
        baseline_rows(found),
    )
