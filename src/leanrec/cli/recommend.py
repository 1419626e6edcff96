"""``leanrec recommend``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from leanrec import tasks
from leanrec.cli import results
from leanrec.cli.options import BudgetOption, TrustOption
from leanrec.cli.output import Json, emit, note, print_table, stages
from leanrec.core.errors import ConfigError
from leanrec.data.store import write_parquet
from leanrec.engine.events import AnyEvent
from leanrec.tasks.words import megabytes

_ONE_WAY = (
    "expected one of --history KEY,KEY,..., --histories FILE and --data DATA, and with --data also --out FILE.parquet or "
    "--user KEY"
)


def recommend_command(
    run: Annotated[Path, typer.Argument(help="A run or an export.")],
    history: Annotated[
        list[str] | None, typer.Option(help="Item keys of one user, oldest first: KEY,KEY,...; may be repeated.")
    ] = None,
    histories: Annotated[
        Path | None, typer.Option(help="A text file with such a history in every line, one line a user.")
    ] = None,
    times: Annotated[
        list[str] | None,
        typer.Option(
            help="When the events of --history happened, in seconds since 1970, for a model that reads times; for each."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A store, or a log: recommend to its users. Its items are matched by key.")
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option(help="With --data: this user alone; may be repeated. Printed without --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet to write, with --data.")] = None,
    k: Annotated[
        int, typer.Option("-k", help="Items for each user; all there are, where the model knows fewer.", min=1)
    ] = 10,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="Leave out each user's own items.")] = False,
    budget: BudgetOption = None,
    trust: TrustOption = False,
    as_json: Json = False,
) -> None:
    """Recommend to users by history, to chosen users of a store or a log, or to all of them.

    Example: leanrec recommend run --history 1193,661,914 -k 5

    Example: leanrec recommend run --histories baskets.txt --json

    Example: leanrec recommend run --data tomorrow --out top10.parquet

    Example: leanrec recommend run --data tomorrow.csv --user 17 --user 23
    """
    if sum(given is not None for given in (history, histories, data)) != 1 or (data is None) != (not out and not user):
        raise ConfigError(_ONE_WAY)
    if times is not None and history is None:
        raise ConfigError(
            "expected --times beside --history only, got it with --data, whose times are read from the store"
            if data
            else "expected --times beside --history only, got it with --histories; import them as a log, and name that with --data"
        )
    opened = tasks.open_answering(run, trust)
    k = min(k, opened.engine.num_items)
    if data is None:
        asked = _read(histories) if histories else results.several_events(history or [], times)
        _answer(opened, asked, k, exclude_seen, budget, as_json, listed=histories is not None or len(asked) > 1)
        return
    with stages(as_json) as progress, tasks.open_data(opened, data, progress) as store:
        unknown = results.unknown_result(store)
        frame = tasks.recommended(opened, store, k, exclude_seen, budget, progress, user)
    results.tell_unknown(unknown)
    if out is not None:
        _written(frame, out, k, unknown, as_json)
    else:
        _printed(frame, user or [], unknown, as_json)


def _read(path: Path) -> list[list[AnyEvent]]:
    """The histories of a file.

    Raises:
        ConfigError: It is not readable text, or a line is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "other bytes"
        raise ConfigError(f"expected --histories to be a text file in UTF-8, got {reason} at {path}") from None
    found: list[list[AnyEvent]] = [[*results.keys(line)] for line in lines]
    empty = next((number for number, keys in enumerate(found, start=1) if not keys), None)
    if empty or not found:
        raise ConfigError(f"expected a history KEY,KEY,... in every line of {path}, got none in line {empty or 1}")
    return found


def _answer(
    opened: tasks.Answering,
    asked: Sequence[Sequence[AnyEvent]],
    k: int,
    exclude_seen: bool,
    budget: float | None,
    as_json: bool,
    listed: bool,
) -> None:
    """Answer histories: one as ever, several as a list in which one of unknown items alone has no items."""
    tasks.checked_budget(budget, opened.engine.budgets is not None)
    answers = opened.engine.recommend(asked, k, exclude_seen=exclude_seen, budget=budget, fallback=listed)
    found = [None if answer.fallback else results.plain(answer) for answer in answers]
    for number, answer in enumerate(found, start=1):
        where = f" in history {number}" if listed else ""
        if answer is None:
            note(f"warning: no known item{where}, which is not answered")
        for key in (answer or {}).get("unknown", ()):
            note(f"warning: unknown item {key!r} skipped{where}")
    if as_json:
        emit({"answers": found} if listed else found[0] or {})
        return
    for number, answer in enumerate(found, start=1):
        if answer is not None:
            results.show_items(answer, f"history {number}: " if listed else "")


def _written(frame: pl.DataFrame, out: Path, k: int, unknown: dict[str, Any], as_json: bool) -> None:
    write_parquet(frame, out)
    users = frame["user"].n_unique()
    result = {"users": users, "k": k, "out": str(out), "bytes": out.stat().st_size} | unknown
    if as_json:
        emit(result)
    else:
        print_table("recommended", ["users", "k", "file", "size"], [(f"{users:,}", k, out, megabytes(result["bytes"]))])


def _printed(frame: pl.DataFrame, users: Sequence[str], unknown: dict[str, Any], as_json: bool) -> None:
    """The items of chosen users; none for one of whom no item is known."""
    rows = frame.select("item", "title", "score")
    found = {key: rows.filter(frame["user"] == key) for key in dict.fromkeys(users)}
    if as_json:
        emit({"answers": [{"user": key, "items": items.to_dicts()} for key, items in found.items()]} | unknown)
        return
    for key, items in found.items():
        listed = [(item, title, f"{score:.3f}") for item, title, score in items.iter_rows()]
        print_table(
            f"user {key}" + ("" if listed else ", of whom no item is known"), ["item", "title", "score"], listed
        )
