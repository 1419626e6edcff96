"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="A run's directory.")]
Data = Annotated[Path | None, typer.Option(help="The store, if it is no longer where the run was trained.")]
ExcludeSeen = Annotated[
    bool | None,
    typer.Option(
        "--exclude-seen/--keep-seen",
        help="Leave out each user's own items, or keep them; by default as in training, which keeps them where items repeat.",
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Open a pt2 export, too: only one of your own, since it can run any code.")
]
Budget = Annotated[float | None, typer.Option(help="Mean cost wanted, as a share of the full model.", min=0)]
