"""``leanrec data``: logs in, stores out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from leanrec.cli.options import moment
from leanrec.cli.output import Json, emit, note, print_table, stages
from leanrec.cli.reading import Reading, with_reading
from leanrec.core.errors import ConfigError
from leanrec.data.datasets import fetch, find
from leanrec.data.describe import describe, describe_times, gained
from leanrec.data.importer import import_log
from leanrec.data.simulate import Shop, simulate
from leanrec.data.spans import tick_of
from leanrec.data.store import Store
from leanrec.data.times import shown_date
from leanrec.tasks.words import human

data_app = typer.Typer(help="Import, fetch, simulate and describe interaction logs.", no_args_is_help=True)


Out = Annotated[Path, typer.Option("--out", help="Directory of the store to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing store.")]
MinUser = Annotated[int, typer.Option(help="Drop users with fewer events, until none is left.", min=1)]
MinItem = Annotated[int, typer.Option(help="Drop items with fewer events, until none is left.", min=1)]


@data_app.command("import")
@with_reading
def import_command(
    out: Out,
    reading: Reading,
    log: Annotated[
        list[str] | None, typer.Argument(help="The log: files, folders, patterns, an address, or what a plug-in takes.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="SQL whose rows are the log, with --database.")] = None,
    database: Annotated[
        str | None, typer.Option(help="Address, such as sqlite:///shop.db.", envvar="LEANREC_DATABASE")
    ] = None,
    collapse: Annotated[
        bool, typer.Option("--collapse", help="Keep one of a user's events in a row with the same item.")
    ] = False,
    min_user: MinUser = 1,
    min_item: MinItem = 1,
    name: Annotated[str | None, typer.Option(help="Name of the data set; the file's by default.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Read an interaction log of any size into a store.

    CSV, TSV, Parquet, Arrow, JSON-lines, RecBole .inter, "user item" pairs, "user item item ..." lines and session lines; packed
    with gzip, bzip2, xz, zstd or zip, or not; one file, or all of a folder or pattern, with the columns of its partitions.

    Example: leanrec data import ratings.csv.gz --out data --user user_id --item item_id --time timestamp

    Example: leanrec data import 'logs/day=2026-11-*' --out data --where "rating >= 4" --since 2026-11-15 --missing drop

    Example: leanrec data import u.data --out data --user 1 --item 2 --time 4

    Example: leanrec data import --query "SELECT user, item, time FROM events" --database sqlite:///shop.db --out data
    """
    with stages(as_json) as progress:
        store = import_log(
            _source(log, query, database),
            out,
            query=query,
            collapse=collapse,
            min_user=min_user,
            min_item=min_item,
            name=name,
            overwrite=overwrite,
            progress=progress,
            **reading.given(),
        )
    _report(store, as_json)


@data_app.command("append")
@with_reading
def append_command(
    data: Annotated[Path, typer.Argument(help="A store that `leanrec data import` wrote.")],
    log: Annotated[list[str], typer.Argument(help="The new log: files, folders or patterns, as in an import.")],
    reading: Reading,
    as_json: Json = False,
) -> None:
    """Add a new log to a store; the result is what an import of all logs together would give.

    Only the new log is read. Late events go to their place in time, and duplicates are dropped where the store has dropped some. A
    store that is killed in the middle is the old one.

    Example: leanrec data append data tuesday.csv
    """
    with stages(as_json) as progress:
        store = import_log(log, data, append=True, progress=progress, **reading.given())
    _report(store, as_json)


@data_app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="A named set; see `leanrec list datasets`.")],
    out: Out,
    sha256: Annotated[str | None, typer.Option(help="Expected checksum, where the publisher gives none.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where downloads are kept.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Download a public set, check it and import it.

    Example: leanrec data fetch ml-1m --out data
    """
    note(f"licence: {find(name).licence}")
    with stages(as_json, byte_unit=True) as progress:
        store = fetch(name, out, cache=cache, progress=progress, sha256=sha256, overwrite=overwrite)
    _report(store, as_json)


@data_app.command("simulate")
def simulate_command(
    out: Out,
    users: Annotated[int | None, typer.Option(help="Number of users.")] = None,
    items: Annotated[int | None, typer.Option(help="Number of items.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Generate a shop in which the best reachable quality of every user is known.

    Example: leanrec data simulate --users 2000 --out data
    """
    chosen = {k: v for k, v in (("users", users), ("items", items)) if v is not None}
    _report(simulate(msgspec.structs.replace(Shop(seed=seed), **chosen), out, overwrite), as_json)


@data_app.command("describe")
def describe_data_command(
    data: Annotated[Path, typer.Argument(help="A store.")],
    since: Annotated[
        str | None, typer.Option(help="Also say what it gained since this date, such as 2026-11-28, or number.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a store holds.

    Example: leanrec data describe data --since 2026-11-28
    """
    when, store = None if since is None else moment(since), Store.open(data)
    facts: dict[str, Any] = describe(store)
    if when is not None:
        facts["since"] = gained(store, tick_of(when, store.times))
    if as_json:
        emit(facts)
    else:
        histogram = facts["length"].pop("histogram")
        if facts["time"]:
            facts["time"] = " to ".join(map(shown_date, facts["time"].values()))
        if since is not None:
            facts[f"since {since}"] = _gained(facts.pop("since"))
        rows = [(key, _short(value)) for key, value in facts.items() if key != "name" and value != ""]
        print_table(facts["name"], ["", ""], rows, numbers=False)
        _draw(histogram)


def _gained(new: dict[str, int]) -> str:
    return "{events:,} events, users {users:,}, of them new {new_users:,}, items {items:,}, of them new {new_items:,}".format(
        **new
    )


def _source(log: list[str] | None, query: str | None, database: str | None) -> list[str] | str:
    """Where the log is: files, or the database of a query."""
    if log and not query:
        return log
    if query and database and not log:
        return database
    raise ConfigError(
        "expected files, or --query and --database, got " + ("both" if log else "neither") + "; give one of them"
    )


def _report(store: Store, as_json: bool) -> None:
    meta = store.meta
    dropped = sum(meta.dropped.values())
    result: dict[str, Any] = {
        "data": str(store.path),
        "name": meta.name,
        "users": meta.users,
        "items": meta.items,
        "read": meta.events + dropped,
        "events": meta.events,
        "dropped": meta.dropped,
        "time": describe_times(store),
        "notes": list(meta.notes),
    }
    if as_json:
        emit(result)
        return
    print_table(
        f"{meta.name} in {store.path}",
        ["users", "items", "events", "dropped"],
        [(f"{meta.users:,}", f"{meta.items:,}", f"{meta.events:,}", f"{dropped:,}")],
    )
    why = ", ".join(f"{events:,} {reason}" for reason, events in meta.dropped.items())
    note(f"read {result['read']:,} events, kept {meta.events:,}, dropped {dropped:,}" + (f": {why}" if why else ""))
    if result["time"]:
        note("time " + " to ".join(map(shown_date, result["time"].values())))
    for line in meta.notes:
        note(f"note: {line}")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _draw(histogram: list[dict[str, Any]]) -> None:
    """History lengths as bars of text."""
    most = max((row["users"] for row in histogram), default=0)
    for row in histogram:
        low, high = row["from"], row["below"]
        span = f"{low}+" if high is None else str(low) if high == low + 1 else f"{low}-{high - 1}"
        typer.echo(f"{span:>12} events {'█' * round(40 * row['users'] / max(most, 1)):<40} {human(row['users'])} users")
