"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from leanrec.core.errors import ConfigError
from leanrec.data.spans import UNITS, unit_of

RunArgument = Annotated[Path, typer.Argument(help="A run's directory.")]
SettingsArgument = Annotated[list[str] | None, typer.Argument(help="key.path=value, for instance train.epochs=20.")]
BackboneOption = Annotated[str | None, typer.Option(help="A name of `leanrec list backbones`.")]
TechniqueOption = Annotated[
    list[str] | None, typer.Option(help="A name of `leanrec list techniques`; may be repeated.")
]
RecipeOption = Annotated[str | None, typer.Option(help="A TOML file, or a name of `leanrec list recipes`.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Another store than the one the run was trained on, or a new place of that one; items are matched by key."
    ),
]
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
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def duration(option: str, text: str, newest: int) -> int:
    """A length of time, such as 7d, 12h or 30m, in the unit of a log; a whole number as it is.

    Args:
        option: That it was given for.
        text: What was given.
        newest: A time of the log, which tells its unit.

    Raises:
        ConfigError: It is neither, or nothing.
    """
    found = re.fullmatch(r"([0-9]{1,12})([smhdw]?)", text)
    if found is None or not int(found[1]):
        raise ConfigError(
            f"expected {option} as a length of time such as 7d, 12h or 30m, or a whole number in the unit of the log, got "
            f"{text[:60]!r}"
        )
    return int(found[1]) * (_SECONDS[found[2]] * UNITS[unit_of(abs(newest))] if found[2] else 1)


def moment(text: str) -> int | datetime:
    """A date, UTC where no zone is named, or a whole number in the unit of a log; `data.spans.tick_of` makes times of both.

    Raises:
        ConfigError: It is neither.
    """
    try:
        if text.lstrip("-").isdigit():
            return int(text)
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"expected a date such as 2026-11-28 or 2026-11-28T12:00, or a whole number, got {text[:60]!r}"
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
