"""How a log is read: the options that importing and appending share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer


class Duplicates(StrEnum):
    """What to do with events of the same user, item and time."""

    keep = "keep"
    drop = "drop"
    error = "error"


class Missing(StrEnum):
    """What to do with events that lack something."""

    error = "error"
    drop = "drop"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options of `leanrec.import_log` by their names there."""

    user: Annotated[str | None, typer.Option(help="Column of the users; guessed from its name.")] = None
    item: Annotated[str | None, typer.Option(help="Column of the items; guessed from its name.")] = None
    time: Annotated[str | None, typer.Option(help="Column of the times; without one, file order counts.")] = None
    titles: Annotated[Path | None, typer.Option(help="A table with the items' titles.")] = None
    title_item: Annotated[str | None, typer.Option(help="Item column of the titles' table; guessed.")] = None
    title_column: Annotated[str | None, typer.Option(help="Title column of the titles' table; guessed.")] = None
    format: Annotated[
        str | None,
        typer.Option(
            help="csv, tsv, inter, parquet, arrow, jsonl, pairs, sequences, sessions; found from the content."
        ),
    ] = None
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="Whether the first line names the columns; found from the content."),
    ] = None
    encoding: Annotated[str | None, typer.Option(help="Of a text, such as cp1251; UTF-8 or found.")] = None
    time_format: Annotated[str | None, typer.Option(help="Of times as text, such as '%d.%m.%Y %H:%M'.")] = None
    timezone: Annotated[str | None, typer.Option(help="Of times without one, such as Europe/Berlin; UTC.")] = None
    missing: Annotated[
        Missing, typer.Option(help="Events without user or item: refuse, or leave out (without time, too).")
    ] = Missing.error
    where: Annotated[
        str | None, typer.Option(help="Keep rows for which this SQL is true: \"rating >= 4 AND event = 'buy'\".")
    ] = None
    since: Annotated[str | None, typer.Option(help="Leave out events before this date, or number of the log.")] = None
    until: Annotated[str | None, typer.Option(help="Leave out events of this time and later.")] = None
    duplicates: Annotated[Duplicates, typer.Option(help="Events of the same user, item and time.")] = Duplicates.keep

    def given(self) -> dict[str, Any]:
        """Arguments of `import_log`."""
        return asdict(self)


def with_reading(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Reading` in the place of its parameter ``reading``."""
    own, shared = (get_type_hints(what, include_extras=True) for what in (command, Reading))
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if own[name] is Reading:
            parameters += [
                option.replace(annotation=shared[option.name]) for option in signature(Reading).parameters.values()
            ]
        else:
            parameters.append(parameter.replace(annotation=own[name], kind=Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**given: Any) -> None:
        reading = Reading(**{field.name: given.pop(field.name) for field in fields(Reading)})
        command(**given, reading=reading)

    run.__dict__["__signature__"] = Signature(parameters)  # what typer makes options of
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
