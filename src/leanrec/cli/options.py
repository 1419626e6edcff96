"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(help="A run's directory.")]
DataOption = Annotated[Path | None, typer.Option(help="The store, if it is no longer where the run was trained.")]
ExcludeSeenOption = Annotated[
    bool | None,
    typer.Option(
        "--exclude-seen/--keep-seen",
        help="Leave out each user's own items, or keep them; by default as in training, which keeps them where items repeat.",
    ),
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Open a pt2 export, too: only one you trust, since it can run any code.")
]
MeasureSecondsOption = Annotated[
    float,
    typer.Option(envvar="LEANREC_MEASURE_SECONDS", help="Time to measure latencies in, for each batch size.", min=0.05),
]
BudgetOption = Annotated[float | None, typer.Option(help="Mean cost wanted, as a share of the full model.", min=0)]
