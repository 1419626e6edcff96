"""``leanrec evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from leanrec import tasks
from leanrec.build import OpenRun, open_run
from leanrec.cli import results
from leanrec.cli.baselines import tell_baselines
from leanrec.cli.options import BudgetOption, DataOption, ExcludeSeenOption, RunArgument, TrustOption, moment
from leanrec.cli.output import Json, emit, note, stages
from leanrec.config import CONFIG
from leanrec.core.errors import ConfigError
from leanrec.data.spans import tick_of
from leanrec.data.store import Store
from leanrec.tasks import RoutedPart
from leanrec.train.log import Bar, CsvLog, Several

Alone = Annotated[
    Path | None, typer.Option(help="A run trained alone, for --controls; trained inside RUN if not given.")
]


def evaluate_command(
    run: RunArgument,
    split: Annotated[
        str, typer.Option(help="test, or valid: the validation users that nothing was fitted on.")
    ] = "test",
    budget: BudgetOption = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            help="Take the cheapest budget that loses less of the whole model's NDCG@10 on users that nothing was fitted on.",
            min=0,
        ),
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="Compare with static, random and separately trained models, on at most 20,000 users."
        ),
    ] = False,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Compare with popular items and tables of counts, which cost no training."),
    ] = False,
    full: Alone = None,
    small: Alone = None,
    exclude_seen: ExcludeSeenOption = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Judge what this export of the run recommends, instead of the run; past its first 20 items ranks are the last."
        ),
    ] = None,
    per_user: Annotated[Path | None, typer.Option(help="Parquet with user, target, rank, route, flops.")] = None,
    data: DataOption = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Ask for each user's first event since this date, such as 2026-11-28 or 2026-11-28T12:00 (UTC), or number."
        ),
    ] = None,
    trust: TrustOption = False,
    as_json: Json = False,
) -> None:
    """Rank the full catalogue for every user: HR, NDCG, MRR at 5, 10, 20, with 95 % intervals, and what it cost.

    Example: leanrec evaluate run --exclude-seen --per-user users.parquet

    Example: leanrec evaluate run --baselines

    Example: leanrec evaluate run --budget 0.3 --controls

    Example: leanrec evaluate run --max-loss 0.01

    Example: leanrec evaluate run --export exported

    Example: leanrec evaluate run --data tomorrow --since 2026-11-28
    """
    if split not in ("test", "valid"):
        raise ConfigError(f"expected --split test or valid, got {split!r}")
    if budget is not None and max_loss is not None:
        raise ConfigError("expected --budget or --max-loss, got both; --max-loss finds the budget")
    if (full or small) and not controls:
        raise ConfigError("expected --controls with --full or --small, got none; add it, or drop them")
    if export and controls:
        raise ConfigError("expected --export or --controls, got both; controls are compared with the run")
    if since is not None and (controls or max_loss is not None or split != "test"):
        raise ConfigError(
            "expected --since without --controls, --max-loss and --split valid, which ask for other events"
        )
    when = None if since is None else moment(since)
    opened = open_run(run)
    store = opened.store(data)
    start = None if when is None else tick_of(when, store.whole.times)
    if controls and store.whole is not store:
        raise ConfigError(
            f"expected --controls on a store with the items of {run}, since models are trained for it, got others in {store.path}"
        )
    exclude_seen = opened.config.data.exclude_seen is True if exclude_seen is None else exclude_seen
    served = tasks.export_of(opened, export, trust) if export else None
    given = {name: _given(name, path, store) for name, path in (("full", full), ("small", small)) if path}
    with stages(as_json) as progress:
        valid = promise = None
        if controls:
            valid = RoutedPart(opened, store, "fit", exclude_seen, progress, most=tasks.CALIBRATED)
        if max_loss is not None:
            fresh = RoutedPart(
                opened, store, tasks.unseen(opened, store), exclude_seen, progress, most=tasks.CALIBRATED
            )
            budget, loss = tasks.cheapest_budget(fresh, max_loss)
            promise = {"max_loss": max_loss, "users": len(fresh.asked.users), **msgspec.to_builtins(loss)}
            note(
                f"budget {budget}: loses {loss.mean:.2%}, at most {loss.upper:.2%} with 95 % confidence, on "
                f"{len(fresh.asked.users):,} validation users that nothing was fitted on"
            )
        if served:
            evaluation = tasks.evaluate_export(opened, served[0], store, split, exclude_seen, budget, progress, start)
        else:
            evaluation = tasks.evaluate_run(opened, store, split, exclude_seen, budget, progress, since=start)
        worth = (
            opened.manifest.worth if served or since else tasks.weigh_again(opened, store, split, budget, exclude_seen)
        )
    if per_user is not None:
        results.write_per_user(per_user, evaluation, store)
    if split == "valid" and not opened.manifest.train.stated:
        note("warning: epochs and routes were chosen on these users too, so the figures look better than they are")
    result = results.evaluation_result(opened, store, evaluation, split, exclude_seen)
    results.tell_unknown(result)
    if since is not None:
        result["since"] = since
    if budget is not None:
        result["budget"] = budget
    if promise is not None:
        result["promise"] = promise
    if baselines:
        with stages(as_json) as progress:
            part_asked = tasks.asked_of(opened, store, split, start)
            counted = tasks.baselines(
                store, tasks.split_asked(opened, store, start), part_asked, exclude_seen, progress
            )
        ranks = evaluation.ranking.ranks
        result["baselines"] = {one.name: one.result(ranks) for one in counted}
        tell_baselines(result["baselines"])
    if export and served:
        result["export"] = results.export_result(export, served[1])
    if valid is not None:
        with stages(as_json) as progress:
            part = RoutedPart(opened, store, split, exclude_seen, progress, most=tasks.CALIBRATED)
        result["curve"] = tasks.curve(part)
        others = {
            name: tasks.evaluate_run(other, store, split, exclude_seen)
            for name, other in _alone(opened, store, evaluation, valid, given).items()
        }
        result["controls"] = tasks.controls_of(part, valid, budget, others, tasks.groups_of(store))
        worth = worth and tasks.with_controls(worth, result["controls"], len(part.asked.users))
    result |= results.worth_result(opened.manifest, worth)
    results.tell_worth(result)
    if as_json:
        emit(result)
    else:
        results.show_evaluation(result)


def _given(name: str, path: Path, store: Store) -> OpenRun:
    """A run trained alone that was named.

    Raises:
        ConfigError: It has other items.
    """
    run = open_run(path)
    if run.manifest.data.catalog_sha256 != store.meta.catalog_sha256:
        raise ConfigError(
            f"expected --{name} to be a run on the items of {store.path}, got one with other items in {path}"
        )
    return run


def _alone(
    run: OpenRun, store: Store, evaluation: tasks.Evaluation, valid: RoutedPart, given: dict[str, OpenRun]
) -> dict[str, OpenRun]:
    """The full and the small model trained alone: runs that were given, the run's own start, or new ones inside the run."""
    found = dict(given)
    start = run.config.train.init
    if start and "full" not in found:
        before = open_run(start)
        if not before.config.technique and before.manifest.data.catalog_sha256 == store.meta.catalog_sha256:
            found["full"] = before
    for name in ("full", "small"):
        if name not in found:
            config = tasks.alone_config(run, name, valid, evaluation.flops_ratio)
            shape = msgspec.to_builtins(config.backbone.config)
            sized = f"small-width{shape['width']}-layers{shape['layers']}"  # another budget has another small model
            path = run.path / "controls" / ("full" if name == "full" else sized)
            if not tasks.finished(path):
                note(f"training the {name} model alone in {path}")
                with Bar() as bar:
                    resume = (path / CONFIG).exists()
                    tasks.run_training(config, store.path, path, Several([CsvLog(path), bar]), resume)
            found[name] = open_run(path)
    return found
