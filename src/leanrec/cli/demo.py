"""``leanrec demo``: the embedded default, from a simulated shop to the cheapest model that stays good, and the report on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leanrec.cli.output import Json, emit, note
from leanrec.cli.slim import Form, searched, show
from leanrec.config import override, parse, read_recipe
from leanrec.core.errors import ConfigError
from leanrec.data.simulate import Shop, simulate
from leanrec.tasks import slim as searches
from leanrec.tasks.slim.candidates import demonstrated

RECIPE = "demo-full"
USERS = 5000
"""Of the shop."""
MAX_LOSS = 0.02
"""About the least that half of them can confirm."""
HOURS = 1.0
"""A limit for slow or busy machines; two free cores need a few minutes."""


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Directory for the shop and the search.")] = Path("leanrec-demo"),
    users: Annotated[int, typer.Option(help="Users of the simulated shop.", min=20)] = USERS,
    epochs: Annotated[
        int | None, typer.Option(help="Most epochs of the full model; fewer is quicker and worse.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulate a shop, find the cheapest model that stays good there, and write the report that proves it.

    Example: leanrec demo --out demo
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not empty; delete it or choose another --out")
    shop = Shop(users=users)
    note(f"simulating a shop of {shop.users:,} users and {shop.items:,} items in {out / 'shop'}")
    simulate(shop, out / "shop")
    settings = [f"train.epochs={epochs}"] if epochs else []
    config = parse(override(read_recipe(RECIPE), settings))
    plan = searches.plan_of(config, out / "shop", MAX_LOSS, {}, demonstrated())
    result = {"out": str(out), **searched(plan, out / "slim", HOURS, as_json, Form.none)}
    if as_json:
        emit(result)
        return
    show(result)
    lean = result["chosen"]["run"] if result["chosen"] else result["baseline"]["run"]
    typer.echo(
        f"open {result['report']}, or try: leanrec evaluate {lean} --controls, leanrec export {lean} --out exported"
    )
