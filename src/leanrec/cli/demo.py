"""``leanrec demo``: from a simulated shop to the cheapest model that stays good, and a report on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leanrec.cli.options import MeasureSecondsOption
from leanrec.cli.output import Json, emit, note
from leanrec.cli.slim import NO_EXPORT, search_and_report, show_search
from leanrec.config import override, parse, read_recipe
from leanrec.core.errors import ConfigError
from leanrec.data.simulate import Shop, simulate
from leanrec.tasks import slim as searches
from leanrec.tasks.slim.candidates import demonstrated

_RECIPE = "demo-full"
_USERS = 5000
"""Of the shop."""
_HOURS = 1.0
"""Most hours of the search, for slow or busy machines; two free cores need a few minutes."""


def demo_command(
    out: Annotated[Path, typer.Option("--out", help="Directory for the shop and the search.")] = Path("leanrec-demo"),
    users: Annotated[int, typer.Option(help="Users of the simulated shop.", min=20)] = _USERS,
    epochs: Annotated[
        int | None, typer.Option(help="Most epochs of the full model; fewer is quicker and worse.", min=1)
    ] = None,
    max_loss: Annotated[
        float, typer.Option(help="Most relative loss of NDCG@10; about the least that half of 5,000 users can confirm.")
    ] = 0.02,
    measure_seconds: MeasureSecondsOption = 3.0,
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
    config = parse(override(read_recipe(_RECIPE), settings))
    plan = searches.plan_of(config, out / "shop", max_loss, {}, demonstrated())
    found = search_and_report(plan, out / "slim", _HOURS, as_json, NO_EXPORT, measure_seconds)
    result = {"out": str(out), **found}
    if as_json:
        emit(result)
        return
    show_search(result)
    lean = result["chosen"]["run"] if result["chosen"] else result["baseline"]["run"]
    typer.echo(
        f"open {result['report']}, or try: leanrec evaluate {lean} --controls, leanrec export {lean} --out exported"
    )
