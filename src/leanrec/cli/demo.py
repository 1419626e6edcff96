"""``leanrec demo``: the embedded default, from a simulated shop to a full, a small and a lean model side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from leanrec import tasks
from leanrec.build import open_run
from leanrec.cli.output import Json, emit, human, note, table
from leanrec.cli.reports import evaluation_result
from leanrec.config import override, parse, read_recipe
from leanrec.core.errors import ConfigError
from leanrec.data.simulate import Shop, simulate
from leanrec.train.log import Bar, CsvLog, Several

RECIPES = {"full": "demo-full", "small": "demo-small", "lean": "demo-lean"}
STARTS = {"lean": "full"}
"""Models that start from the weights of another one."""


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Directory for the shop and the runs.")] = Path("leanrec-demo"),
    users: Annotated[int | None, typer.Option(help="Users of the simulated shop.", min=10)] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Most epochs of each model; fewer is quicker and worse.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulate a shop, train a full and a small SASRec and a lean one that gives every user its own sub-model, and compare.

    Example: leanrec demo --out demo
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not empty; delete it or choose another --out")
    shop = Shop() if users is None else msgspec.structs.replace(Shop(), users=users)
    note(f"simulating a shop of {shop.users:,} users and {shop.items:,} items in {out / 'shop'}")
    store = simulate(shop, out / "shop")
    results: dict[str, dict[str, Any]] = {}
    for name, recipe in RECIPES.items():
        note(f"training the {name} model ({recipe})")
        run, settings = out / name, [f"train.epochs={epochs}"] if epochs else []
        settings += [f"train.init={out / STARTS[name]}"] if name in STARTS else []
        config = parse(override(read_recipe(recipe), settings))
        with Bar() as bar:
            tasks.run_training(config, out / "shop", run, Several([CsvLog(run), bar]))
        opened = open_run(run)
        results[name] = evaluation_result(opened, store, tasks.evaluate_run(opened, store, "test"), "test", False)
    note("measuring all, taking turns")
    timing = tasks.run_bench([tasks.open_answering(out / name) for name in RECIPES], None, [256], seconds=4.0, k=10)
    for name, row in zip(RECIPES, timing.rows, strict=True):
        results[name]["ms_per_user"] = 1e3 / row.users_per_s
    if as_json:
        emit({"out": str(out), "runs": results, "machine": timing.machine})
    else:
        _show(out, results)


def _show(out: Path, results: dict[str, dict[str, Any]]) -> None:
    kinds = list(next(iter(results.values()))["kinds"])
    rows = []
    for name, result in results.items():
        low, high = result["ci95"]["ndcg@10"]
        rows.append(
            (
                name,
                f"{result['metrics']['ndcg@10']:.3f} [{low:.3f}, {high:.3f}]",
                *(f"{result['kinds'][kind]['ndcg@10']:.3f}" for kind in kinds),
                f"{result['cost']['params']:,}",
                human(result["cost"]["flops_per_user"]),
                f"{result['ms_per_user']:.3f}",
            )
        )
    best = next(iter(results.values()))["oracle"]
    rows.append(
        ("best reachable", f"{best['all']['ndcg@10']:.3f}", *(f"{best[k]['ndcg@10']:.3f}" for k in kinds), "", "", "")
    )
    table(
        "test NDCG@10 over the full catalogue, all users and by kind",
        ["model", "NDCG@10 [95 %]", *kinds, "params", "FLOPs/user", "ms/user"],
        rows,
        "params and FLOPs counted, ms measured at batch 256",
    )
    for name in ("small", "lean"):
        typer.echo(_moral(results, name, kinds))
    spent = ", ".join(f"{share:.0%} on {kind} users" for kind, share in results["lean"]["kinds_flops_ratio"].items())
    typer.echo(f"the lean model spends, of the full model's FLOPs: {spent}")
    typer.echo(f"runs are in {out}; try: leanrec evaluate {out / 'lean'} --budget 0.2")


def _moral(results: dict[str, dict[str, Any]], name: str, kinds: list[str]) -> str:
    """What the table says of a model, in a sentence."""
    full, other = results["full"], results[name]
    saved = full["cost"]["flops_per_user"] / other["cost"]["flops_per_user"]
    kept = {kind: other["kinds"][kind]["ndcg@10"] / max(full["kinds"][kind]["ndcg@10"], 1e-9) for kind in kinds}
    parts = ", ".join(f"{share:.0%} for {kind} users" for kind, share in kept.items())
    return f"the {name} model costs {saved:.1f} times fewer FLOPs and keeps of the full model's NDCG@10: {parts}"
