"""``leanrec report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leanrec.cli.options import DataOption, ExcludeSeenOption, MeasureSecondsOption
from leanrec.cli.output import Json, emit, note, stages
from leanrec.tasks.report import subject, write_report


def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Runs, the first to hold the others against; or one search.")],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    data: DataOption = None,
    exclude_seen: ExcludeSeenOption = None,
    measure_seconds: MeasureSecondsOption = 3.0,
    as_json: Json = False,
) -> None:
    """Write one self-contained page: quality against cost, routes, who pays and who gains, single users, training.

    Example: leanrec report full lean --out report.html

    Example: leanrec report search --out report.html
    """
    about = subject(runs, out, data, exclude_seen)
    with stages(as_json) as progress:
        facts = write_report(about, progress, measure_seconds)
    result = {
        "report": str(out),
        "bytes": out.stat().st_size,
        "runs": [
            {"run": str(r.path), "ndcg@10": r.metric, "ci95": list(r.ci95), "flops_per_user": r.flops, "bytes": r.bytes}
            for r in facts.runs
        ],
    }
    if as_json:
        emit(result)
    else:
        note(f"report: {out}")
