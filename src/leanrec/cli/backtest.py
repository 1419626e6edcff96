"""``leanrec backtest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from leanrec.artifact.manifest import read_manifest
from leanrec.cli.models import config_tree
from leanrec.cli.options import (
    BackboneOption,
    ExcludeSeenOption,
    RecipeOption,
    SettingsArgument,
    TechniqueOption,
    duration,
)
from leanrec.cli.output import Json, emit, note, print_table, stages
from leanrec.config import RunConfig, override, parse
from leanrec.core.errors import ConfigError
from leanrec.core.writing import claimed
from leanrec.data.store import Store
from leanrec.data.times import shown_date
from leanrec.tasks import backtest as backtests
from leanrec.tasks.words import ahead_by, within
from leanrec.train.log import Bar, CsvLog, Several


def backtest_command(
    data: Annotated[Path, typer.Argument(help="A store with times, as `leanrec data import` writes it.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the backtest; the same command goes on with it.")],
    settings: SettingsArgument = None,
    windows: Annotated[int, typer.Option(help="How many; the last one ends with the log.", min=1, max=1000)] = 6,
    every: Annotated[
        str | None,
        typer.Option(
            help="Length of a window, such as 7d, 12h or a whole number in the unit of the log; by default the windows share the "
            "newest tenth of all events evenly."
        ),
    ] = None,
    backbone: BackboneOption = None,
    technique: TechniqueOption = None,
    recipe: RecipeOption = None,
    run: Annotated[
        Path | None,
        typer.Option(help="A run whose configuration is trained; its weights have seen too much, and are not read."),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Also bring a model up from window to window, an epoch each.")
    ] = False,
    exclude_seen: ExcludeSeenOption = None,
    as_json: Json = False,
) -> None:
    """Train on what precedes a window of time, ask for the window, move on: what retraining is worth on a log.

    Each user's first event in a window is asked for, of models trained before it, the newest and older ones, and of baselines that
    are counted up to it. Stop it at any moment; the same command goes on.

    Example: leanrec backtest data --backbone sasrec --windows 6 --every 7d --refresh --out rolling

    Example: leanrec backtest data --run run --out rolling
    """
    store = Store.open(data)
    config = _config(settings or [], backbone, technique or [], recipe, run)
    newest = 0 if store.times is None else int(store.times.max())
    length = None if every is None else duration("--every", every, newest)
    schedule = backtests.schedule_of(config, store, windows, length, exclude_seen)
    with claimed(out):
        backtests.take_up(schedule, out)
        test = backtests.Backtest(schedule, store, out, refresh)
        for window in schedule.windows:
            _do(test, window, as_json)
        result = backtests.result_of(test)
        backtests.save(test, result)
    if as_json:
        emit(result)
    else:
        _show(result)


def _config(
    settings: list[str], backbone: str | None, technique: list[str], recipe: str | None, run: Path | None
) -> RunConfig:
    """What is trained: that of the options, or of a run as if it had started from no other one."""
    if run is None:
        return parse(config_tree(settings, backbone, technique, recipe))
    if backbone or technique or recipe:
        raise ConfigError(
            "expected --run, or --backbone, --recipe and --technique, got both; --run brings its configuration"
        )
    tree = read_manifest(run).config
    started = [key for key in ("init", "teacher") if tree["train"][key]]
    if started:
        note(
            f"note: {run} was trained with train.{started[0]}, which may have seen the windows; it is trained without here"
        )
    tree["train"] |= {"init": "", "teacher": ""}
    tree["data"] |= {"catalog_sha256": "", "events": 0}
    return parse(override(tree, settings))


def _do(test: backtests.Backtest, window: int, as_json: bool) -> None:
    """Train before a window and ask for it, unless that is done."""
    bounds, last = test.schedule.bounds, len(test.schedule.windows)
    when = f"window {window} of {last}, from {shown_date(bounds[window - 1])} and before {shown_date(bounds[window])}"
    if test.done(window):
        note(f"{when}: done before")
        return
    note(when)
    with Bar() as bar:
        test.train(window, lambda run: Several([CsvLog(run), bar]))
    with stages(as_json) as progress:
        told = test.judge(window, progress)
    for line in told:
        note(f"note: {line}")


def _show(result: dict[str, Any]) -> None:
    dates = {one["window"]: shown_date(one["from"]) for one in result["windows"]}
    print_table(
        f"{result['data']} by window",
        ["window", "from", "users", "model", "age", "NDCG@10 [95 %]", "HR@10 [95 %]"],
        [
            (
                row["window"],
                dates[row["window"]],
                f"{row['users']:,}",
                row["model"],
                _or_dash(row["age"]),
                *_figures(row),
            )
            for row in result["rows"]
        ],
    )
    heads = ["windows", "questions", "NDCG@10 [95 %]", "HR@10 [95 %]", "NDCG@10 beside retrained [95 %]"]
    shares = [one["new_items"] for one in result["windows"]]
    for title, key in (("all windows", "model"), ("by windows since the training", "age")):
        rows = result["overall" if key == "model" else "ages"]
        print_table(
            title,
            [key, *heads],
            [
                (
                    row[key],
                    row["windows"],
                    f"{row['users']:,}",
                    *_figures(row),
                    ahead_by(*row["lead"]),
                )
                for row in rows
            ],
        )
    note(
        f"of targets {min(shares):.1%} to {max(shares):.1%} are items without an event before their window, which all miss"
    )
    spent = [one["seconds"] for one in result["windows"]]
    for name in spent[0]:
        note(f"{name}: {sum(seconds[name] for seconds in spent):.1f} s of training in all")
    note(f"picture: {Path(result['out']) / backtests.PICTURE}")


def _figures(row: dict[str, Any]) -> list[str]:
    return [within(row["metrics"][name], row["ci95"][name]) for name in ("ndcg@10", "hr@10")]


def _or_dash(value: int | None) -> str:
    return "–" if value is None else str(value)
