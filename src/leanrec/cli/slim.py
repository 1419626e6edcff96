"""``leanrec slim``: the cheapest recommender that stays good."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from leanrec.cli.display import Display
from leanrec.cli.options import ExcludeSeenOption, MeasureSecondsOption
from leanrec.cli.output import Json, emit, note, print_table, stages
from leanrec.config import override, parse, read_recipe
from leanrec.core.errors import ConfigError
from leanrec.core.writing import claimed, written
from leanrec.formats import format_names, formats
from leanrec.tasks import slim as searches
from leanrec.tasks.report import subject, write_report
from leanrec.tasks.words import human, megabytes


class CostOption(StrEnum):
    """The cost that a search reduces."""

    flops = "flops"
    bytes = "bytes"


NO_EXPORT = "none"
"""Given as a format: no export."""


def slim_command(
    data: Annotated[Path, typer.Argument(help="A store, as `leanrec data import` writes it.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the search; the same command goes on with it.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="key.path=value of the full model, for instance train.epochs=20.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="The full model's, a name of `leanrec list backbones`.")] = None,
    recipe: Annotated[str | None, typer.Option(help="The full model's: a TOML file or a shipped recipe.")] = None,
    max_loss: Annotated[float, typer.Option(help="Most relative loss of NDCG@10, with 95 % confidence.")] = 0.01,
    limit: Annotated[str | None, typer.Option(help="What it may cost at most, such as p99_ms=5,bytes=20MB.")] = None,
    techniques: Annotated[
        str | None,
        typer.Option(help="What to try beside small models: names separated by commas; all by default; none for none."),
    ] = None,
    hours: Annotated[float, typer.Option(help="Time to train and judge in, over all interruptions.")] = 1.0,
    cost: Annotated[CostOption, typer.Option(help="What to make small.")] = CostOption.flops,
    exclude_seen: ExcludeSeenOption = None,
    measure_seconds: MeasureSecondsOption = 3.0,
    export: Annotated[
        str | None,
        typer.Option(
            help="Export the winner as this, see `leanrec list formats`, or none; by default onnx where leanrec[onnx] is installed."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the cheapest model that loses less than --max-loss, and prove it: the full model, small ones, techniques, pairs of them.

    Stop it at any moment; the same command goes on. With --json, what happens is told on stderr as lines of JSON.

    Example: leanrec slim data --backbone sasrec --max-loss 0.01 --hours 2 --out lean

    Example: leanrec slim data --backbone sasrec --limit p99_ms=5,bytes=20MB train.epochs=30 --out lean
    """
    if export not in (None, NO_EXPORT):
        formats.get(export)  # refused before hours of search
    tree = read_recipe(recipe) if recipe else {}
    if backbone:
        tree.setdefault("backbone", {})["name"] = backbone
    config = parse(override(tree, settings or []))
    plan = searches.plan_of(
        config,
        data,
        max_loss,
        searches.parse_limits(limit),
        technique_names(techniques),
        msgspec.convert(cost.value, searches.SearchedCost),
        exclude_seen,
    )
    result = search_and_report(plan, out, hours, as_json, export, measure_seconds)
    if as_json:
        emit(result)
    else:
        show_search(result)


def technique_names(text: str | None) -> tuple[str, ...] | None:
    """Techniques of a comma-separated list; None for all of them."""
    if text is None:
        return None
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ConfigError(f"expected --techniques as names separated by commas, or none, got {text!r}")
    return () if found == ("none",) else tuple(sorted(set(found)))


def search_and_report(
    plan: searches.Plan,
    out: Path,
    hours: float,
    as_json: bool,
    export: str | None = None,
    measure_seconds: float = 3.0,
) -> dict[str, Any]:
    """Search, keep and export the winner, and write ``slim.json`` and the report."""
    with claimed(out), Display(as_json) as display:
        state = searches.State(plan, out, hours, display, measure_seconds)
        finished = state.journal.finished
        journal = searches.run_search(state)
        if journal.chosen is not None:
            searches.keep_winner(journal, state.path(journal.chosen.name), out)
        found = searches.search_result(journal, state.full, out, state.store)
        if journal.chosen is not None and export != NO_EXPORT:
            _save(found, out)  # whatever becomes of the export
            found["export"] = searches.export_chosen(out, export, display)
        _save(found, out)
        display.close()
        if not finished or not (out / "report.html").exists():
            about = subject([out], out / "report.html")
            with stages(as_json) as progress:
                write_report(about, progress, measure_seconds)
    return found


def _save(found: dict[str, Any], out: Path) -> None:
    with written(out / searches.RESULT) as made:
        made.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


def show_search(result: dict[str, Any]) -> None:
    """Print the sentence that sums up, the two models side by side, and what was tried."""
    typer.echo("\n".join(filter(None, (result["headline"], result["hint"]))))
    base, lean, seen = result["baseline"], result["chosen"], "left out" if result["exclude_seen"] else "kept"
    if lean is not None:
        kind = "a plain small model of the same kind" if not lean["techniques"] else " and ".join(lean["techniques"])
        typer.echo(f"chosen: {lean['name']} ({kind}): {lean['summary']}")
        rows = [
            (f"NDCG@10, test, seen {seen}", *(f"{side['metrics']['ndcg@10']:.4f}" for side in (base, lean))),
            ("FLOPs per user (counted)", *(human(side["flops_per_user"]) for side in (base, lean))),
            ("size (counted)", *(megabytes(side["bytes"]) for side in (base, lean))),
            ("p99 ms, one user (measured)", *(f"{side['p99_ms']:.3f}" for side in (base, lean))),
        ]
        print_table("full and chosen", ["", "full", "chosen"], rows)
    tried = [(t["name"], t["status"], _standing(t), f"{t['seconds']:.0f}") for t in result["candidates"]]
    print_table("what was tried", ["candidate", "", "", "seconds"], tried, numbers=False)
    if "oracle" in result:
        share, allowed = result["oracle"]["share"], result["oracle"]["saving"]
        typer.echo(
            f"a router that knows the easy users would save {allowed:.0%}; the chosen model saves {share:.0%} of that"
        )
    _show_export(result["export"])
    note(f"report: {result['report']}")


def _show_export(export: dict[str, Any] | None) -> None:
    if export is None:
        return
    if export["path"] is None:
        note(f"not exported: {export['why']}")
        return
    more = ""
    if export["format"] in format_names(runs_code=True):
        safe = " or ".join(
            f"--export {name} (pip install {' '.join(formats.get(name).build().packages)})"
            for name in format_names(runs_code=False)
        )
        more = f"; open it with --trust; {safe} makes one that needs no trust"
    note(f"exported as {export['format']}, {megabytes(export['bytes'])}: {export['path']}{more}")


def _standing(trial: dict[str, Any]) -> str:
    if not trial["points"]:
        return trial["why"]
    best = trial["points"][-1]
    budget = "" if best["budget"] is None else f"budget {best['budget']:g}, "
    return (
        f"{budget}loses {100 * best['loss']['mean']:+.2f} % on validation, at most {100 * best['loss']['upper']:+.2f} %"
    )
