"""``leanrec refresh``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leanrec import tasks
from leanrec.cli import results
from leanrec.cli.options import RunArgument
from leanrec.cli.output import Json, emit, note, print_table
from leanrec.tasks.words import percent
from leanrec.train.log import Bar, CsvLog, Several

NOT_PROMOTED = 3
"""Exit code where the new model is not shown to be good enough."""


def refresh_command(
    run: RunArgument,
    data: Annotated[Path, typer.Option("--data", help="Its store, after `leanrec data append`.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the new run.")],
    epochs: Annotated[int, typer.Option(help="Of the training, from the old weights.", min=0)] = 1,
    max_loss: Annotated[
        float,
        typer.Option(help="Share of the old model's NDCG@10 that may be lost, shown with 95 % confidence.", min=0),
    ] = 0.01,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with one that was interrupted.")] = False,
    as_json: Json = False,
) -> None:
    """Train a run on with a store that has grown, and say whether the new one may take its place.

    Both are judged on the newest event of every user, which neither was trained on. Ends with 3 where it may not.

    Example: leanrec refresh run --data data --out tonight
    """
    with Bar() as bar:
        found = tasks.refresh_run(run, data, out, epochs, max_loss, Several([CsvLog(out), bar]), resume)
    verdict = found.verdict
    result = results.plain(verdict) | {"run": str(out), "seconds": found.run.manifest.train.seconds}
    change = percent(verdict.loss.mean, verdict.loss.low, verdict.loss.high)
    if as_json:
        emit(result)
    else:
        print_table(
            f"{out} instead of {run}",
            ["users", "new items among targets", "NDCG@10", "of the old run", "difference", "promoted"],
            [
                (
                    f"{verdict.users:,}",
                    f"{verdict.new_items:.1%}",
                    f"{verdict.ndcg:.4f}",
                    f"{verdict.ndcg_old:.4f}",
                    change,
                    "yes" if verdict.promoted else "no",
                )
            ],
        )
    if not verdict.promoted:
        note(
            f"not promoted: NDCG@10 {change}, which does not show with 95 % confidence that less than {max_loss:.1%} is lost; keep "
            f"{run}, ask for more --epochs, or train anew"
        )
        raise typer.Exit(NOT_PROMOTED)
