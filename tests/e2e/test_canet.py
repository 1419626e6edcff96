"""A routed model by the command line: budgets, controls, interruptions and what is refused."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import torch

from e2e.command import Result, leanrec, listing, trained
from e2e.conftest import ROUTED, ROUTES, SMALL
from leanrec.artifact.manifest import read_manifest
from leanrec.build import open_run
from leanrec.core.folder import sealed
from leanrec.data.store import Store
from leanrec.techniques.canet import choice
from leanrec.train.checkpoint import Progress
from leanrec.train.log import CsvLog
from toys import batch_of

ON_A_SHOP = {"learned", "full", "whole", "static", "matched", "uniform", "small", "oracle"}


@pytest.fixture(scope="session")  # as long as the run it trains models in, also where a worker comes back to this file
def judged(routed: Path) -> Result:
    return leanrec("evaluate", routed, "--budget", 0.5, "--controls", "--json")


def counted(result: dict[str, Any]) -> dict[str, Any]:
    """Without what was measured."""
    worth = {name: fact for name, fact in result["worth"].items() if not name.endswith("p50_ms") and name != "lines"}
    return result | {"worth": worth}


@pytest.mark.slow
def test_whoever_trains_evaluates_or_exports_is_told_what_is_saved_and_lost(
    plain: Path, routed: Path, shop: Path, tmp_path: Path
) -> None:
    few = ("technique.canet.widths=[8,16]", "technique.canet.depths=[2]", "technique.canet.embs=[16]")  # few to export
    settings = ("--technique", "canet", *few, "train.epochs=1")
    trained = leanrec("train", shop, "--init", plain, *settings, "--out", tmp_path / "lean", "--json")
    evaluated = leanrec("evaluate", tmp_path / "lean", "--json")
    exported = leanrec("export", tmp_path / "lean", "--format", "pt2", "--out", tmp_path / "exported", "--json")
    for ended in (trained, evaluated, exported):
        worth = ended.json["worth"]
        assert worth["before"] == str(plain.resolve()) and worth["chosen"]["users"] > 0
        assert worth["lines"][0].startswith(f"lean, against {plain.resolve()}: ")
        assert all(f"{line}\n" in ended.err for line in worth["lines"])
    assert (trained.json["worth"]["part"], evaluated.json["worth"]["part"]) == ("valid", "test")
    assert trained.json["worth"] == exported.json["worth"]  # what was measured when it was trained
    assert "worth" not in leanrec("evaluate", plain, "--json").json


def of_routes(result: dict[str, Any]) -> float:
    """What a run's routes cost by their shares, as `leanrec cost` counts them for histories of full length."""
    cost = leanrec("cost", result["run"], "--json").json
    flops = {route["route"]: route["flops"] for route in cost["routes"]}
    return sum(share * flops[route] for route, share in result["routes"].items()) / cost["flops_full"]


def test_training_ends_with_the_routed_models_validation(routed: Path) -> None:
    found = leanrec("evaluate", routed, "--split", "valid", "--json").json
    assert found["metrics"] == read_manifest(routed).train.valid
    assert sorted(path.name for path in routed.iterdir() if path.is_file()) == [
        *("catalog.parquet", "config.toml", "log.csv", "manifest.json", "model.safetensors"),
    ]


def test_a_budget_is_kept(routed: Path, tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    found = leanrec("evaluate", routed, "--budget", 0.5, "--per-user", path, "--json").json
    assert found["budget"] == 0.5
    assert list(found["cost"]) == [
        *("params", "bytes", "flops_per_user", "flops_full", "flops_ratio", "body_ratio"),
    ]
    assert found["cost"]["flops_ratio"] == pytest.approx(0.5, abs=0.1)
    assert 0 < found["cost"]["body_ratio"] < 1
    assert 1 < len(found["routes"]) <= 4 and set(found["routes"]) <= set(ROUTES)
    assert sum(found["routes"].values()) == pytest.approx(1)
    assert of_routes(found) == pytest.approx(found["cost"]["flops_ratio"])  # all histories are longer than what is read
    users = pl.read_parquet(path)
    assert {route: n / 120 for route, n in Counter(users["route"]).items()} == pytest.approx(found["routes"])
    assert users["flops"].mean() == found["cost"]["flops_per_user"]
    assert dict(users.group_by("route").agg(pl.col("flops").n_unique()).iter_rows()) == dict.fromkeys(
        found["routes"], 1
    )


def test_less_budget_costs_less_and_none_is_the_configured_one(routed: Path) -> None:
    ratios = [
        leanrec("evaluate", routed, "--budget", budget, "--json").json["cost"]["flops_ratio"]
        for budget in (0.35, 0.4, 0.6, 1.0)
    ]
    assert ratios == sorted(ratios) and ratios[0] < ratios[-1] - 0.5
    usual = leanrec("evaluate", routed, "--json").json
    assert "budget" not in usual
    assert (
        ratios[0] < usual["cost"]["flops_ratio"] < ratios[-1]
    )  # .3 of what routes span; .3 of the FLOPs is the cheapest route


def test_a_plain_run_costs_all_of_itself(plain: Path) -> None:
    found = leanrec("evaluate", plain, "--json").json
    assert (found["cost"]["flops_ratio"], found["cost"]["body_ratio"], found["routes"]) == (1.0, 1.0, {"full": 1.0})


def test_a_plain_run_has_no_budget(plain: Path, tmp_path: Path) -> None:
    everyone = ("--data", plain.parent / "shop", "--out", tmp_path / "x.parquet")
    for command in (("evaluate", plain), ("bench", plain, "--seconds", 0.1), ("recommend", plain, *everyone)):
        error = leanrec(*command, "--budget", 0.3).error
        assert error.startswith(
            "expected no --budget for a model with one route, which costs the same for everyone, got 0.3"
        )


def test_controls(judged: Result, routed: Path) -> None:
    found = judged.json
    assert found["controls"].keys() == ON_A_SHOP
    assert found["controls"]["learned"]["metrics"] == pytest.approx(found["metrics"])
    for name, control in list(found["controls"].items())[1:]:
        assert control["metrics"].keys() == found["metrics"].keys()
        low, high = control["lead"][1:]
        assert low <= control["lead"][0] <= high
        lead = found["metrics"]["ndcg@10"] - control["metrics"]["ndcg@10"]
        assert control["lead"][0] == pytest.approx(lead)
        assert ("routes" in control) == (name not in ("full", "small"))
    ratio = {name: control["flops_ratio"] for name, control in found["controls"].items()}
    assert ratio["whole"] == ratio["full"] == 1.0
    assert ratio["small"] <= found["cost"]["flops_ratio"]
    assert ratio["matched"] <= found["cost"]["flops_ratio"]  # it pays for no router
    assert found["controls"]["matched"]["routes"] == pytest.approx(found["routes"])
    assert [point["budget"] for point in found["curve"]] == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    middle = next(point for point in found["curve"] if point["budget"] == 0.5)
    assert middle["flops_ratio"] == pytest.approx(found["cost"]["flops_ratio"])
    assert {name: middle[name] for name in found["metrics"]} == pytest.approx(found["metrics"])


def alone_in(run: Path, name: str) -> Path:
    """Where the model trained alone lies inside a run."""
    (found,) = (run / "controls").glob(f"{name}*")
    return found


def test_models_alone_are_trained_inside_the_run_with_its_settings(judged: Result, routed: Path) -> None:
    for name in ("full", "small"):
        path = alone_in(routed, name)
        assert f"training the {name} model alone in {path}\n" in judged.err
        config = read_manifest(path).config
        assert config["technique"] == {}
        assert config["train"] == read_manifest(routed).config["train"]
        alone = leanrec("evaluate", path, "--json").json
        assert judged.json["controls"][name]["metrics"] == alone["metrics"]
    assert read_manifest(routed / "controls" / "full").config["backbone"] == read_manifest(routed).config["backbone"]


def test_models_alone_are_trained_once(judged: Result, routed: Path) -> None:
    before = listing(routed)
    again = leanrec("evaluate", routed, "--budget", 0.5, "--controls", "--json")
    assert all(line.startswith(("lean, against ", "warning: ")) for line in again.err.splitlines())
    assert counted(again.json) == counted(judged.json)
    assert listing(routed) == before


def test_controls_for_people(judged: Result, routed: Path) -> None:
    shown = leanrec("evaluate", routed, "--budget", 0.5, "--controls").out
    for label in (
        "learned routes",
        "full model alone",
        "small model alone",
        "oracle of user groups",
        "best static route",
    ):
        assert label in shown
    static = judged.json["controls"]["static"]
    assert "{:+.4f} [{:+.4f}, {:+.4f}]".format(*static["lead"]) in shown
    point = judged.json["curve"][-1]
    rows = [re.findall(r"[\d.]+", line) for line in shown.splitlines()]
    assert ["0.9", f"{point['flops_ratio']:.1%}"[:-1], f"{point['ndcg@10']:.4f}"] in rows


def test_controls_that_are_interrupted_go_on(
    judged: Result, fresh: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: CsvLog, progress: Progress) -> None:
        if (progress.epoch, progress.step) == (1, 1):
            raise KeyboardInterrupt

    asked = ("evaluate", fresh, "--budget", 0.5, "--controls", "--small", plain, "--json")
    monkeypatch.setattr(CsvLog, "step", stop)
    assert leanrec(*asked).code == 130
    monkeypatch.undo()
    assert sorted(path.name for path in (fresh / "controls" / "full").iterdir()) == [
        *("checkpoint.safetensors", "config.toml", "log.csv"),
    ]
    ended = leanrec(*asked)
    assert "train: going on at epoch 2, step 0" in ended.err
    assert ended.json["controls"]["full"] == judged.json["controls"]["full"]


def test_models_alone_can_be_given(fresh: Path, plain: Path) -> None:
    before = listing(fresh)
    result = leanrec("evaluate", fresh, "--controls", "--full", plain, "--small", plain, "--json")
    alone = leanrec("evaluate", plain, "--json").json
    assert "training" not in result.err and listing(fresh) == before
    for name in ("full", "small"):
        assert result.json["controls"][name]["metrics"] == alone["metrics"]


def test_the_full_model_that_a_run_started_from_is_its_control(shop: Path, plain: Path, tmp_path: Path) -> None:
    out = trained(shop, tmp_path / "run", *SMALL, *ROUTED, f"train.init={plain}", "train.epochs=1")
    result = leanrec("evaluate", out, "--controls", "--json")
    alone = leanrec("evaluate", plain, "--json").json
    assert result.json["controls"]["full"]["metrics"] == alone["metrics"]
    (small,) = (out / "controls").iterdir()
    assert small.name.startswith("small-width")


def test_the_small_model_alone_costs_no_more_than_the_learned_routes_of_any_budget(
    judged: Result, routed: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(routed, tmp_path / "run")
    found = leanrec("evaluate", copied, "--budget", 0.4, "--controls", "--json").json
    assert found["controls"]["small"]["flops_ratio"] <= found["cost"]["flops_ratio"]


def test_the_cheapest_budget_that_loses_little(routed: Path) -> None:
    result = leanrec("evaluate", routed, "--max-loss", 1.01, "--json")  # 60 users promise nothing less
    found = result.json
    budget, promise = found["budget"], found.pop("promise")
    assert result.err.startswith(
        f"budget {budget}: loses {promise['mean']:.2%}, at most {promise['upper']:.2%} with 95 % confidence, on 60 validation "
        "users that nothing was fitted on\n"
    )
    assert promise["users"] == 60 and promise["p"] <= 0.05
    assert counted(found) == counted(leanrec("evaluate", routed, "--budget", budget, "--json").json)


def test_a_promise_is_refused_where_all_validation_users_were_fitted_on(routed: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(routed, tmp_path / "run")
    manifest = read_manifest(copied)
    older = msgspec.structs.replace(manifest, train=msgspec.structs.replace(manifest.train, fitted=0, stated=0))
    (copied / "manifest.json").write_bytes(sealed(older)[1])
    error = leanrec("evaluate", copied, "--max-loss", 0.9, "--json").error
    assert error == (
        "expected validation users that nothing was fitted on for --max-loss, got a run of an older version, which fitted on all "
        f"of them in {copied}; name a --budget, or train again"
    )
    stated = leanrec("evaluate", copied, "--split", "valid", "--json")
    assert (
        "warning: epochs and routes were chosen on these users too, so the figures look better than they are\n"
        in stated.err
    )


def test_cost_lists_every_route_with_its_routing(routed: Path) -> None:
    found = leanrec("cost", routed, "--json").json
    assert [route["route"] for route in found["routes"]] == ROUTES
    flops = [route["flops"] for route in found["routes"]]
    assert flops[0] == min(flops) and flops[-1] == max(flops)
    assert flops[-1] > found["flops_full"] > flops[-2]  # the whole model needs no router
    shown = leanrec("cost", routed).out
    assert all(f"FLOPs, route {route} (counted)" in shown for route in ROUTES)


def test_recommend_with_a_budget(routed: Path, shop: Path) -> None:
    store = Store.open(shop)
    cost = leanrec("cost", routed, "--json").json
    flops = {route["route"]: route["flops"] for route in cost["routes"]}
    spent = {0.35: 0.0, 1.0: 0.0}
    for user in range(4):
        history = ",".join(store.catalog.keys[item - 1] for item in store.history(user))
        for budget in spent:
            found = leanrec("recommend", routed, "--history", history, "--budget", budget, "--json").json
            assert found["flops_ratio"] == flops[found["route"]] / cost["flops_full"]
            spent[budget] += found["flops_ratio"] / 4
    assert spent[0.35] < 0.5 < 0.8 < spent[1.0]


def test_recommend_to_all_users_with_a_budget(routed: Path, shop: Path, tmp_path: Path) -> None:
    tables = []
    for budget in (0.35, 1.0):
        out = tmp_path / f"{budget}.parquet"
        assert leanrec("recommend", routed, "--data", shop, "--out", out, "-k", 4, "--budget", budget).code == 0
        tables.append(pl.read_parquet(out))
    assert [table.height for table in tables] == [480, 480]
    assert not tables[0].equals(tables[1])


def test_scores_of_a_history_shorter_than_any_seen_are_of_the_usual_size(routed: Path) -> None:
    model = open_run(routed).model
    with torch.inference_mode():
        usual, short = (model.decide(batch_of([list(range(1, steps + 1))])) for steps in (6, 5))
    assert usual is not None and short is not None
    assert short.abs().max() < 100 * usual.abs().max()


def test_bench_beside_the_full_model(judged: Result, routed: Path) -> None:
    runs = (routed, routed / "controls" / "full")
    found = leanrec("bench", *runs, "--batch", "1,4", "--seconds", 0.1, "-k", 3, "--json").json
    assert [(row["run"], row["batch"]) for row in found["rows"]] == [(str(r), b) for b in (1, 4) for r in runs]
    assert all(row["p50_ms"] > 0 for row in found["rows"])


def interrupted_in_a_step(patch: pytest.MonkeyPatch) -> None:
    def stop(self: CsvLog, progress: Progress) -> None:
        if (progress.epoch, progress.step) == (1, 1):
            raise KeyboardInterrupt

    patch.setattr(CsvLog, "step", stop)


def interrupted_while_the_router_is_fitted(patch: pytest.MonkeyPatch) -> None:
    fit = choice.fit_router

    def stop(*arguments: Any) -> None:
        fit(*arguments)
        raise KeyboardInterrupt

    patch.setattr(choice, "fit_router", stop)


@pytest.mark.parametrize("interrupted", [interrupted_in_a_step, interrupted_while_the_router_is_fitted])
def test_interrupted_and_resumed_it_is_the_same_model(
    interrupted: Any, shop: Path, routed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupted(patch)
        assert leanrec("train", shop, *SMALL, *ROUTED, "--out", out).code == 130
    assert not (out / "manifest.json").exists()
    assert leanrec("train", shop, "--out", out, "--resume").code == 0
    assert (out / "model.safetensors").read_bytes() == (routed / "model.safetensors").read_bytes()
    assert read_manifest(out).train.valid == read_manifest(routed).train.valid
    assert read_manifest(out).config == read_manifest(routed).config
