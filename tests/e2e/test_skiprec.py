"""A model whose users skip blocks, by the command line: from a trained model, budgets, controls, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from e2e.command import Result, leanrec, listing, refused, trained
from leanrec.artifact.manifest import read_manifest
from leanrec.cli.results import SHADES
from leanrec.data.store import Store

BLOCKS, PATTERNS, BUDGET = 4, 5, 0.6
DEEP = (
    *("--backbone", "nextitnet", "backbone.width=16", f"backbone.layers={BLOCKS}", "backbone.max_length=6"),
    *("train.loss_precision=float32", "train.encoder_precision=float32"),
)
SKIPPING = (
    *("--technique", "skiprec", f"technique.skiprec.patterns={PATTERNS}", "technique.skiprec.keep=0.5"),
    "technique.skiprec.training=sandwich",
)


@pytest.fixture(scope="module")
def whole(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain run, from which the others start."""
    return trained(shop, tmp_path_factory.mktemp("skiprec") / "whole", *DEEP, "train.epochs=2")


@pytest.fixture(scope="module")
def skipping(shop: Path, whole: Path) -> Path:
    """Nothing is written into it."""
    return trained(shop, whole.parent / "skipping", "--init", whole, *SKIPPING, "train.epochs=1")


@pytest.fixture(scope="module")
def budgeted(skipping: Path) -> dict[str, Any]:
    return leanrec("evaluate", skipping, "--budget", BUDGET, "--json").json


def pattern(route: str) -> list[bool]:
    """The blocks that a route such as "l0.2" runs."""
    if route == "full":
        return [True] * BLOCKS
    layers = [int(block) for block in route.removeprefix("l").split(".") if block]
    return [block in layers for block in range(BLOCKS)]


def test_it_starts_from_the_trained_model(whole: Path, skipping: Path) -> None:
    config, plain = read_manifest(skipping).config, read_manifest(whole).config
    assert config["backbone"] == plain["backbone"]
    assert config["train"]["init"] == str(whole)
    assert plain["technique"] == {} and list(config["technique"]) == ["skiprec"]


@pytest.mark.slow
def test_without_a_step_worth_mentioning_its_whole_network_is_the_trained_model(
    shop: Path, whole: Path, tmp_path: Path
) -> None:
    still = ("train.epochs=1", "train.learning_rate=1e-12")
    run = trained(shop, tmp_path / "run", "--init", whole, *SKIPPING, *still)
    controls = leanrec("evaluate", run, "--controls", "--full", whole, "--small", whole, "--json").json["controls"]
    assert controls["whole"]["metrics"] == pytest.approx(controls["full"]["metrics"], abs=1e-6)


def test_every_pattern_of_the_menu_is_a_route_of_the_run(skipping: Path) -> None:
    found = leanrec("cost", skipping, "--json").json
    routes = [route["route"] for route in found["routes"]]
    assert len(set(routes)) == PATTERNS and routes[-1] == "full"
    sizes = [sum(pattern(route)) for route in routes]
    assert sizes == sorted(sizes) and max(sizes[:-1]) < BLOCKS
    flops = [route["flops"] for route in found["routes"]]
    assert flops[0] == min(flops) and flops[-1] == max(flops) > found["flops_full"]


def test_an_evaluation_tells_which_blocks_ran(skipping: Path, budgeted: dict[str, Any], tmp_path: Path) -> None:
    blocks = budgeted["blocks"]
    assert list(blocks) == ["kept", "bits", "always", "never", "per_user"]
    rates = [sum(share * pattern(route)[b] for route, share in budgeted["routes"].items()) for b in range(BLOCKS)]
    assert blocks["kept"] == pytest.approx(rates)
    assert len(budgeted["routes"]) > 1 and sum(budgeted["routes"].values()) == pytest.approx(1)
    shares = pl.Series(list(budgeted["routes"].values()))
    assert blocks["bits"] == pytest.approx(-(shares * shares.log(2)).sum())
    assert blocks["always"] == pytest.approx(sum(rate >= 0.99 for rate in rates) / BLOCKS)
    assert blocks["never"] == pytest.approx(sum(rate <= 0.01 for rate in rates) / BLOCKS)
    assert blocks["always"] + blocks["never"] + blocks["per_user"] == pytest.approx(1)
    path = tmp_path / "users.parquet"
    assert leanrec("evaluate", skipping, "--budget", BUDGET, "--per-user", path).code == 0
    users = pl.read_parquet(path)["route"].to_list()
    assert {route: users.count(route) / len(users) for route in set(users)} == pytest.approx(budgeted["routes"])


def test_a_budget_is_kept(budgeted: dict[str, Any]) -> None:
    assert budgeted["budget"] == BUDGET
    assert budgeted["cost"]["flops_ratio"] == pytest.approx(BUDGET, abs=0.1)
    assert 0 < budgeted["cost"]["body_ratio"] < budgeted["cost"]["flops_ratio"]


def test_less_budget_runs_fewer_blocks(skipping: Path) -> None:
    found = [leanrec("evaluate", skipping, "--budget", budget, "--json").json for budget in (0.5, 0.7, 1.0)]
    ratios = [result["cost"]["flops_ratio"] for result in found]
    assert ratios == sorted(ratios) and ratios[0] < ratios[-1] - 0.2
    kept = [sum(result["blocks"]["kept"]) if "blocks" in result else BLOCKS for result in found]
    assert kept == sorted(kept) and kept[0] < kept[-1]


def test_where_every_block_runs_for_everyone_nothing_is_told_of_blocks(whole: Path) -> None:
    found = leanrec("evaluate", whole, "--json").json
    assert "blocks" not in found and found["routes"] == {"full": 1.0}
    assert "share of users of block" not in leanrec("evaluate", whole).out


def test_blocks_for_people(skipping: Path, budgeted: dict[str, Any]) -> None:
    shown = leanrec("evaluate", skipping, "--budget", BUDGET).out
    (bars,) = re.findall(rf"share of users of block 1\.\.{BLOCKS} *│ +(\S+)", shown)
    blocks = budgeted["blocks"]
    assert bars == "".join(SHADES[round(8 * rate)] for rate in blocks["kept"]) and len(bars) == BLOCKS
    assert f"{sum(blocks['kept']):.1f} of {BLOCKS}" in shown
    assert f"{blocks['bits']:.2f} bits" in shown
    assert f"{blocks['always']:.0%}, {blocks['never']:.0%}, {blocks['per_user']:.0%}" in shown


@pytest.fixture(scope="module")
def judged(skipping: Path, whole: Path) -> Result:
    alone = ("--full", whole, "--small", whole)
    return leanrec("evaluate", skipping, "--budget", BUDGET, "--controls", *alone, "--json")


def test_controls(judged: Result, whole: Path, skipping: Path) -> None:
    found = judged.json
    assert judged.err.startswith(f"lean, against {whole.resolve()}: ") and not (skipping / "controls").exists()
    assert found["controls"].keys() == {
        *("learned", "whole", "static", "matched", "uniform", "rates", "coin", "oracle", "full", "small"),
    }
    assert found["controls"]["learned"]["metrics"] == pytest.approx(found["metrics"])
    ratio = {name: control["flops_ratio"] for name, control in found["controls"].items()}
    assert ratio["whole"] == ratio["full"] == 1.0
    assert ratio["matched"] <= ratio["learned"] and 0 < ratio["rates"] < 1 and 0 < ratio["coin"] < 1
    # both run the learned number of blocks; what routing costs is the learned routes' own
    assert ratio["rates"] == pytest.approx(ratio["matched"], abs=0.1)
    alone = leanrec("evaluate", whole, "--json").json
    assert found["controls"]["full"]["metrics"] == alone["metrics"]
    for name in ("rates", "coin"):
        lead, low, high = found["controls"][name]["lead"]
        assert low <= lead <= high
        assert lead == pytest.approx(found["metrics"]["ndcg@10"] - found["controls"][name]["metrics"]["ndcg@10"])


def test_controls_for_people(judged: Result, skipping: Path, whole: Path) -> None:
    alone = ("--full", whole, "--small", whole)
    shown = leanrec("evaluate", skipping, "--budget", BUDGET, "--controls", *alone).out
    for name, label in (("rates", "blocks at random, learned rates"), ("coin", "a coin for every block")):
        (line,) = [line for line in shown.splitlines() if label in line]
        control = judged.json["controls"][name]
        assert f"{control['metrics']['ndcg@10']:.4f}" in line and f"{control['flops_ratio']:.1%}" in line


def test_recommend_with_a_budget(skipping: Path, shop: Path) -> None:
    store = Store.open(shop)
    cost = leanrec("cost", skipping, "--json").json
    flops = {route["route"]: route["flops"] for route in cost["routes"]}
    spent = {0.5: 0.0, 1.0: 0.0}
    for user in range(4):
        history = ",".join(store.catalog.keys[item - 1] for item in store.history(user))
        for budget in spent:
            found = leanrec("recommend", skipping, "--history", history, "-k", 3, "--budget", budget, "--json").json
            assert len(found["items"]) == 3
            assert found["flops_ratio"] == flops[found["route"]] / cost["flops_full"]
            spent[budget] += found["flops_ratio"] / 4
    assert spent[0.5] < spent[1.0]


def test_recommend_to_all_users_with_a_budget(skipping: Path, shop: Path, tmp_path: Path) -> None:
    tables = []
    for budget in (0.5, 1.0):
        out = tmp_path / f"{budget}.parquet"
        assert leanrec("recommend", skipping, "--data", shop, "--out", out, "-k", 4, "--budget", budget).code == 0
        tables.append(pl.read_parquet(out))
    assert [table.height for table in tables] == [480, 480]
    assert not tables[0].equals(tables[1])


def test_bench_beside_the_whole_model(skipping: Path, whole: Path) -> None:
    runs = (whole, skipping)
    options = ("--batch", "1,4", "--seconds", 0.1, "-k", 3, "--budget", BUDGET)
    found = leanrec("bench", *runs, *options, "--json").json
    assert [(row["run"], row["batch"]) for row in found["rows"]] == [(str(r), b) for b in (1, 4) for r in runs]
    assert all(row["p50_ms"] > 0 for row in found["rows"])


@pytest.mark.parametrize("training", ["gumbel", pytest.param("rl", marks=pytest.mark.slow)])
def test_a_policy_that_is_trained_with_the_weights(training: str, shop: Path, whole: Path, tmp_path: Path) -> None:
    chosen = f"technique.skiprec.training={training}"
    run = trained(shop, tmp_path / "run", "--init", whole, *SKIPPING, chosen, "train.epochs=1")
    found = leanrec("evaluate", run, "--split", "valid", "--json").json
    assert found["metrics"] == read_manifest(run).train.valid
    budgeted = leanrec("evaluate", run, "--budget", BUDGET, "--json").json
    assert budgeted["cost"]["flops_ratio"] == pytest.approx(BUDGET, abs=0.1)
    assert list(budgeted["blocks"]) == ["kept", "bits", "always", "never", "per_user"]
    assert len(leanrec("cost", run, "--json").json["routes"]) == PATTERNS


@pytest.mark.slow
def test_a_policy_with_a_table_of_its_own(shop: Path, tmp_path: Path) -> None:
    own = ("technique.skiprec.policy=gru", "technique.skiprec.policy_width=4", "train.epochs=1")
    run = trained(shop, tmp_path / "run", *DEEP, *SKIPPING, "technique.skiprec.training=depth", *own)
    found = leanrec("evaluate", run, "--json").json
    assert set(found["routes"]) <= {route["route"] for route in leanrec("cost", run, "--json").json["routes"]}


def test_it_is_listed() -> None:
    assert "skiprec" in leanrec("list", "techniques").out


BAD = {
    "a single block": (
        ("backbone.layers=1",),
        "expected at least 2 blocks to skip from, got backbone.layers=1; 8 would work",
    ),
    "a single pattern": (
        ("technique.skiprec.patterns=1",),
        "expected at least 2 patterns in technique.skiprec.patterns, got 1; 12 would work",
    ),
    "no pattern": (
        ("technique.skiprec.patterns=0",),
        "config technique.skiprec: Expected `int` >= 1 - at `technique.skiprec.patterns`",
    ),
    "nothing to keep": (
        ("technique.skiprec.keep=0",),
        "config technique.skiprec: Expected `float` > 0.0 - at `technique.skiprec.keep`",
    ),
    "nothing to skip": (
        ("technique.skiprec.keep=1",),
        "config technique.skiprec: Expected `float` < 1.0 - at `technique.skiprec.keep`",
    ),
    "unknown training": (
        ("technique.skiprec.training=gumble",),
        "config technique.skiprec: Invalid enum value 'gumble' - at `technique.skiprec.training`; did you mean 'gumbel'? "
        "known: depth, gumbel, menu, rl, sandwich",
    ),
    "unknown policy": (
        ("technique.skiprec.policy=atention",),
        "config technique.skiprec: Invalid enum value 'atention' - at `technique.skiprec.policy`; did you mean 'attention'? "
        "known: attention, conv, gru, shared",
    ),
    "unknown setting": (
        ("technique.skiprec.pattern=4",),
        "unknown config key 'technique.skiprec.pattern'; did you mean 'patterns'? known: bounded, budget, candidates, compute, "
        "distil, keep, mean, miss, patterns, policy, policy_width, random_patterns, reward, temperature, training",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_cannot_be(case: str, shop: Path, tmp_path: Path) -> None:
    settings, message = BAD[case]
    error = refused(tmp_path, "train", shop, *DEEP, *SKIPPING, *settings, "--out", tmp_path / "run")
    assert error == message
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("command", ["evaluate", "recommend", "bench"])
def test_a_budget_below_the_cheapest_pattern(command: str, skipping: Path, shop: Path, tmp_path: Path) -> None:
    options: dict[str, list[object]] = {
        "evaluate": [],
        "recommend": ["--data", shop, "--out", tmp_path / "top.parquet"],
        "bench": ["--batch", "1", "--seconds", 0.1],
    }
    before = listing(skipping)
    error = refused(tmp_path, command, skipping, *options[command], "--budget", 0.01, "--json")
    named = re.fullmatch(
        r"expected a budget of at least (0\.\d{3}), the cheapest route's share of the full model's FLOPs, got 0\.01; "
        r"(0\.\d{3}) would work",
        error,
    )
    assert named is not None, error
    assert listing(skipping) == before
    cost = leanrec("cost", skipping, "--json").json
    assert float(named[1]) == pytest.approx(cost["routes"][0]["flops"] / cost["flops_full"], abs=1e-3)
    assert leanrec(command, skipping, *options[command], "--budget", named[2], "--json").code == 0


def test_a_start_of_another_depth_is_refused(shop: Path, whole: Path, tmp_path: Path) -> None:
    deeper = ("--init", whole, *SKIPPING, "backbone.layers=5")
    error = refused(tmp_path, "train", shop, *deeper, "--out", tmp_path / "run")
    assert error.startswith("expected weights of the model's shape in train.init, got backbone.blocks.4.")
    assert error.endswith(f"use the settings of {whole}/config.toml")
