"""``leanrec train, describe, cost, bench, export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from leanrec import tasks
from leanrec.artifact.manifest import read_manifest
from leanrec.backbones import backbones
from leanrec.build import open_run, saved_config
from leanrec.cli import drawing, results
from leanrec.cli.options import (
    BackboneOption,
    BudgetOption,
    DataOption,
    RecipeOption,
    RunArgument,
    SettingsArgument,
    TechniqueOption,
    TrustOption,
)
from leanrec.cli.output import Json, emit, note, print_table
from leanrec.config import override, parse, read_recipe, recipe_names
from leanrec.core.errors import ConfigError
from leanrec.core.registry import did_you_mean
from leanrec.core.writing import written
from leanrec.data.datasets import DATASETS
from leanrec.export.parity import LIMIT
from leanrec.formats import formats
from leanrec.objectives import objectives
from leanrec.techniques import techniques
from leanrec.train.log import Bar, CsvLog, Several


def listing(what: str) -> list[tuple[str, str]]:
    """Names and one-line summaries of a kind of thing."""
    registries = {"backbones": backbones, "techniques": techniques, "objectives": objectives, "formats": formats}
    if what in registries:
        return [(name, registries[what].get(name).summary) for name in registries[what].names()]
    if what == "recipes":
        return [(name, _shape(read_recipe(name).get("backbone", {}))) for name in recipe_names()]
    if what == "datasets":
        return [(name, f"{d.title}. Licence: {d.licence}") for name, d in DATASETS.items()]
    raise ConfigError(f"cannot list {what!r}; {did_you_mean(what, [*registries, 'recipes', 'datasets'])}")


def _shape(backbone: dict[str, Any]) -> str:
    """A recipe's backbone in a line: its name, then its settings."""
    settings = [f"{key}={value}" for key, value in backbone.items() if key != "name"]
    return " ".join([str(backbone.get("name", "")), *settings])


def train_command(
    data: Annotated[Path, typer.Argument(help="A store, as `leanrec data import` writes it.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the run to write.")],
    settings: SettingsArgument = None,
    backbone: BackboneOption = None,
    technique: TechniqueOption = None,
    recipe: RecipeOption = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="A run whose weights to start from, of this or another store; its configuration too, unless a backbone or recipe "
            "is named."
        ),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="A run on the same items to learn from, where a technique distils.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, to the same numbers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model on a store. It can be stopped at any moment and resumed.

    Example: leanrec train data --backbone sasrec backbone.width=128 train.seed=1 --out run

    Example: leanrec train data --init run --technique NAME train.epochs=10 --out lean

    Example: leanrec train data --recipe NAME --teacher run --out student
    """
    given = bool(settings or backbone or technique or recipe or init or teacher)
    if resume and given:
        raise ConfigError("--resume goes on with the run's own configuration; drop the other options")
    config = (
        saved_config(out)
        if resume
        else parse(config_tree(settings or [], backbone, technique or [], recipe, init, teacher))
    )
    ended = resume and tasks.finished(out)
    with Bar() as bar:
        manifest = tasks.run_training(config, data, out, Several([CsvLog(out), bar]), resume)
    if ended:
        note(f"{out} is finished, nothing is left to train")
    result = results.train_result(out, manifest) | results.worth_result(manifest, manifest.worth)
    results.tell_worth(result)
    if config.technique and manifest.worth is None:
        note(
            "note: nothing to compare with; --init or --teacher with a full model's run also tells what this one saves"
        )
    if as_json:
        emit(result)
        return
    print_table(
        f"{config.backbone.name} on {data}",
        ["run", "epochs", "best", "valid ndcg@10", "valid hr@10", "seconds", "users/s"],
        [
            (
                out,
                result["epochs"],
                result["best_epoch"],
                f"{result['valid']['ndcg@10']:.4f}",
                f"{result['valid']['hr@10']:.4f}",
                f"{result['seconds']:.0f}",
                f"{result['users_per_s']:,.0f}",
            )
        ],
        f"{results.who_saw_what(result['users'])}\nnext: leanrec evaluate {out}",
    )


def config_tree(
    settings: list[str],
    backbone: str | None,
    technique: list[str],
    recipe: str | None,
    init: Path | None = None,
    teacher: Path | None = None,
) -> dict[str, Any]:
    """What the options of a training ask for, as plain values."""
    tree = read_recipe(recipe) if recipe else {}
    if init and not (backbone or recipe):
        tree = read_manifest(init).config
    if init:
        tree.setdefault("train", {})["init"] = str(init.resolve())
    if teacher:
        tree.setdefault("train", {})["teacher"] = str(teacher.resolve())
    if backbone:
        tree.setdefault("backbone", {})["name"] = backbone
    for name in technique:
        tree.setdefault("technique", {}).setdefault(name, {})
    return override(tree, settings)


def describe_command(
    run: RunArgument,
    svg: Annotated[Path | None, typer.Option(help="Also draw it into this file.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a run is, and draw what feeds what in it.

    Example: leanrec describe run --svg cell.svg
    """
    opened = open_run(run)
    diagrams = opened.model.backbone.diagrams()
    config, manifest = opened.config, opened.manifest
    result = {
        "run": str(run),
        "backbone": config.tree()["backbone"],
        "objective": config.objective.name,
        "techniques": [technique.name for technique in config.technique],
        "data": manifest.data.name,
        "params": manifest.cost.params,
        "flops_full": manifest.cost.flops,
        "diagrams": [{"title": d.title, "wires": [list(wire) for wire in d.wires]} for d in diagrams],
    }
    if svg is not None:
        with written(svg) as made:
            made.write_text(drawing.svg(diagrams), encoding="utf-8")
    if as_json:
        emit(result)
        return
    results.show_description(result)
    for diagram in diagrams:
        typer.echo(drawing.text(diagram))


def cost_command(run: RunArgument, as_json: Json = False) -> None:
    """Count parameters, bytes and FLOPs per user of every route.

    Example: leanrec cost run
    """
    manifest = open_run(run).manifest
    result = {
        "params": manifest.cost.params,
        "bytes": manifest.cost.bytes,
        "routes": [{"route": r.route, "flops": r.flops} for r in manifest.routes],
        "flops_full": manifest.cost.flops,
    }
    if as_json:
        emit(result)
    else:
        results.show_cost(str(run), result)


def bench_command(
    runs: Annotated[list[Path], typer.Argument(help="Runs or exports; ratios are to the first.")],
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,32,256",
    seconds: Annotated[float, typer.Option(help="Time for each batch size.", min=0.1)] = 10.0,
    k: Annotated[int, typer.Option("-k", help="Items recommended.", min=1)] = 10,
    budget: BudgetOption = None,
    data: DataOption = None,
    trust: TrustOption = False,
    as_json: Json = False,
) -> None:
    """Measure p50, p99 and users a second on real histories, the runs taking turns.

    Example: leanrec bench full small --batch 1,256
    """
    sizes = results.whole_numbers("--batch", batch)
    result = asdict(
        tasks.run_bench([tasks.open_answering(run, trust) for run in runs], data, sizes, seconds, k, budget)
    )
    if as_json:
        emit(result)
    else:
        results.show_bench(result)


def export_command(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="Directory to write; new or empty.")],
    form: Annotated[str, typer.Option("--format", help="What to write; see `leanrec list formats`.")] = "onnx",
    limit: Annotated[float, typer.Option(help="Largest error against the run that is accepted.", min=0)] = LIMIT,
    sessions: Annotated[
        bool, typer.Option("--sessions", help="Also write what takes single steps, for events that arrive one by one.")
    ] = False,
    weights: Annotated[
        str, typer.Option(help="float32, or int8: a quarter of the bytes, and what it loses is measured.")
    ] = "float32",
    data: DataOption = None,
    as_json: Json = False,
) -> None:
    """Write a run as graphs that serve without its code: one per route, sharing their weights, each compared with the run.

    Example: leanrec export run --format onnx --out exported

    Example: leanrec recommend exported --history 1193,661,914
    """
    if weights not in ("float32", "int8"):
        raise ConfigError(f"expected --weights float32 or int8, got {weights!r}")
    opened = open_run(run)
    exported = tasks.export_run(opened, out, form, limit, sessions, weights == "int8", data, note)
    result = results.export_result(out, exported) | results.worth_result(opened.manifest, opened.manifest.worth)
    results.tell_worth(result)
    if as_json:
        emit(result)
    else:
        results.show_export(result)
