"""A routed model that cannot be: exit code 2, one clear line, and nothing half-written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e.command import leanrec, listing, refused, trained
from e2e.conftest import ROUTED, ROUTES, SMALL
from leanrec.artifact.manifest import read_manifest

GRIDS = {
    "not multiples of heads": (
        "technique.canet.widths=[7,16]",
        "expected multiples of backbone.heads (2) in technique.canet.widths, got [7, 16]; [6, 16] would work",
    ),
    "unsorted": (
        "technique.canet.widths=[16,8]",
        "expected ascending sizes, each once in technique.canet.widths, got [16, 8]; [8, 16] would work",
    ),
    "twice": (
        "technique.canet.widths=[8,8,16]",
        "expected ascending sizes, each once in technique.canet.widths, got [8, 8, 16]; [8, 16] would work",
    ),
    "not the whole depth": (
        "technique.canet.depths=[1]",
        "expected sizes that end with the whole model's, 2 in technique.canet.depths, got [1]; [1, 2] would work",
    ),
    "more than the whole depth": (
        "technique.canet.depths=[1,2,3]",
        "expected sizes that end with the whole model's, 2 in technique.canet.depths, got [1, 2, 3]; [1, 2] would work",
    ),
    "unsorted embeddings": (
        "technique.canet.embs=[16,4]",
        "expected ascending sizes, each once in technique.canet.embs, got [16, 4]; [4, 16] would work",
    ),
    "unknown key": (
        "technique.canet.width=[8,16]",
        "unknown config key 'technique.canet.width'; did you mean 'widths'? known: ",
    ),
    "unknown training": (
        "technique.canet.training=sandwhich",
        "config technique.canet: Invalid enum value 'sandwhich' - at `technique.canet.training`; did you mean 'sandwich'?",
    ),
    "no width": ("technique.canet.widths=[0,16]", "config technique.canet: Expected `int` >= 1 - at `technique.canet."),
    "budget": ("technique.canet.budget=1.5", "config technique.canet: Expected `float` <"),
}


@pytest.mark.parametrize("case", GRIDS)
def test_a_grid_that_cannot_be_used(case: str, shop: Path, tmp_path: Path) -> None:
    setting, message = GRIDS[case]
    error = refused(tmp_path, "train", shop, *SMALL, *ROUTED, setting, "--out", tmp_path / "run")
    assert error.startswith(message)


def test_a_grid_that_would_work_works(shop: Path, tmp_path: Path) -> None:
    setting, message = GRIDS["not multiples of heads"]
    works = re.search(r"; (\[.*\]) would work", message)
    assert works is not None
    widths = f"{setting.split('=')[0]}={works[1]}"
    out = trained(shop, tmp_path / "run", *SMALL, *ROUTED, widths, "train.epochs=1")
    assert [route.route for route in read_manifest(out).routes] == [route.replace("w8", "w6") for route in ROUTES]


@pytest.mark.parametrize("command", ["evaluate", "recommend"])
def test_a_budget_below_the_smallest_route(command: str, routed: Path, shop: Path, tmp_path: Path) -> None:
    options = ["--data", shop, "--out", tmp_path / "top.parquet"] if command == "recommend" else []
    pattern = (
        r"expected a budget of at least (0\.\d{3}), the cheapest route's share of the full model's FLOPs, got 0\.05; "
        r"(0\.\d{3}) would work"
    )
    error = refused(tmp_path, command, routed, *options, "--budget", 0.05, "--json")
    named = re.fullmatch(pattern, error)
    assert named is not None, error
    least, works = named.groups()
    cost = leanrec("cost", routed, "--json").json
    assert float(least) == pytest.approx(cost["routes"][0]["flops"] / cost["flops_full"], abs=1e-3)
    assert leanrec(command, routed, *options, "--budget", works, "--json").code == 0


def test_a_budget_or_a_loss(routed: Path) -> None:
    error = leanrec("evaluate", routed, "--budget", 0.5, "--max-loss", 0.01, "--json").error
    assert error == "expected --budget or --max-loss, got both; --max-loss finds the budget"


@pytest.mark.parametrize("option", [("--controls",), ("--max-loss", "0.1")])
def test_a_plain_run_has_no_routes_to_compare(option: tuple[str, ...], plain: Path) -> None:
    assert refused(plain, "evaluate", plain, *option, "--json") == (
        f"expected a model with a choice of routes, got one with a single route in {plain}; "
        "train it with a technique that has a router, such as --technique canet"
    )


@pytest.mark.parametrize("name", ["full", "small"])
def test_a_model_alone_that_is_no_run(name: str, fresh: Path, plain: Path, tmp_path: Path) -> None:
    other = "small" if name == "full" else "full"
    options = [f"--{name}", tmp_path / "nowhere", f"--{other}", plain]
    error = refused(fresh, "evaluate", fresh, "--controls", *options, "--json")
    assert (
        error
        == f"expected the directory of a run, got nothing at {tmp_path / 'nowhere'}; make one with 'leanrec train'"
    )


def test_a_full_model_alone_on_other_items(fresh: Path, run: Path) -> None:
    error = refused(fresh, "evaluate", fresh, "--controls", "--full", run, "--json")
    assert error.startswith("expected --full to be a run on the items of ")
    assert error.endswith(f", got one with other items in {run}")


def test_a_small_model_alone_on_other_items_is_refused_before_anything_is_written(fresh: Path, run: Path) -> None:
    before = listing(fresh.parent)
    options = ["--small", run, "--per-user", fresh.parent / "users.parquet"]
    assert leanrec("evaluate", fresh, "--controls", *options, "--json").code == 2
    assert listing(fresh.parent) == before


def test_a_full_model_alone_of_another_split(shop: Path, plain: Path, fresh: Path, tmp_path: Path) -> None:
    timed = trained(shop, tmp_path / "timed", *SMALL, "train.epochs=1", "data.split=time")
    ended = leanrec("evaluate", fresh, "--controls", "--full", timed, "--small", plain, "--json")
    assert ended.error.startswith(
        "expected the full model's run to be split as the routed one, got one with other test users"
    )


def test_a_model_alone_without_controls(fresh: Path, plain: Path) -> None:
    error = refused(fresh, "evaluate", fresh, "--full", plain, "--json")
    assert error == "expected --controls with --full or --small, got none; add it, or drop them"
