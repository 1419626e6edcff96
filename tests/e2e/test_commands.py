"""Every command does its job: one JSON object with the promised fields, or a table with the key figures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from e2e.command import leanrec
from e2e.conftest import AWKWARD, KEYS, TINY
from leanrec.artifact.manifest import read_manifest
from leanrec.evaluate.metrics import summarise

METRICS = {f"{name}@{k}" for name in ("hr", "ndcg", "mrr") for k in (5, 10, 20)}
COMMANDS = (
    *("demo", "list", "train", "evaluate", "cost", "bench", "recommend", "export", "refresh", "backtest"),
    *("data import", "data fetch", "data simulate", "data describe"),
)


def test_the_module_is_a_program() -> None:
    command = [sys.executable, "-m", "leanrec", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"leanrec {version('leanrec')}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    shown = leanrec(*command.split(), "--help")
    assert shown.code == 0
    assert f"Example: leanrec {command}" in " ".join(shown.out.split())
    assert "--json" in shown.out


def test_without_a_command_there_is_help() -> None:
    shown = leanrec()
    assert shown.code == 2
    assert "leanrec data import log.csv --out data" in shown.out


def test_list() -> None:
    entries = leanrec("list", "backbones", "--json").json["backbones"]
    assert [entry["name"] for entry in entries] == ["bert4rec", "cells", "gru4rec", "nextitnet", "popular", "sasrec"]
    assert all(entry["summary"] for entry in entries)
    assert leanrec("list", "techniques", "--json").json.keys() == {"techniques"}
    recipes = {e["name"]: e["summary"] for e in leanrec("list", "recipes", "--json").json["recipes"]}
    assert recipes.keys() >= {"demo-full", "demo-small"}
    assert recipes["nextitnet32-ml-1m"].startswith("nextitnet width=128 layers=16 dilations=[1, 4] ")
    assert {e["name"] for e in leanrec("list", "datasets", "--json").json["datasets"]} >= {"ml-1m", "steam"}
    table = leanrec("list", "objectives").out
    assert all(name in table for name in ("softmax", "sampled-softmax", "gbce"))


def test_import(log: Path, tmp_path: Path) -> None:
    result = leanrec("data", "import", log, "--out", tmp_path / "data", "--json")
    events = len(log.read_text().splitlines()) - 1
    assert result.json == {
        "data": str(tmp_path / "data"),
        "name": "shop",
        "users": 120,
        "items": 40,
        "read": events,
        "events": events,
        "dropped": {},
        "time": {"first": 1600000000, "last": 1600000660},
        "notes": ["csv: user from 'user', item from 'item', time from 'time'"],
    }
    assert result.err == ""
    shown = leanrec("data", "import", log, "--out", tmp_path / "data", "--overwrite")
    assert "note: csv: user from 'user'" in shown.err
    assert "120" in shown.out and "dropped" in shown.out
    assert f"read {events:,} events, kept {events:,}, dropped 0" in shown.err
    assert "time 2020-09-13 12:26:40 to 2020-09-13 12:3" in shown.err


def test_describe(store: Path) -> None:
    facts = leanrec("data", "describe", store, "--json").json
    assert (facts["users"], facts["items"], facts["short_users"]) == (120, 40, 0)
    assert facts["length"]["max"] == 12
    shown = leanrec("data", "describe", store)
    assert "120" in shown.out
    assert "5-9 events" in shown.out and "  2 events" in shown.out
    assert "│ time " in shown.out and "2020-09-13 12:26:40 to 2020-09-13 12:37:40" in shown.out


def test_simulate(tmp_path: Path) -> None:
    result = leanrec("data", "simulate", "--users", 60, "--seed", 3, "--out", tmp_path / "shop", "--json")
    assert result.json["users"] == 60
    assert result.err == ""
    again = leanrec("data", "simulate", "--users", 70, "--out", tmp_path / "shop", "--overwrite")
    assert "70" in again.out


def test_train(store: Path, tmp_path: Path) -> None:
    result = leanrec("train", store, "--backbone=sasrec", *TINY, "train.epochs=1", "--out", tmp_path / "run", "--json")
    summary = result.json
    assert summary.keys() == {"run", "epochs", "best_epoch", "valid", "users", "seconds", "users_per_s"}
    assert (summary["run"], summary["epochs"], summary["best_epoch"]) == (str(tmp_path / "run"), 1, 1)
    assert summary["valid"].keys() == METRICS
    assert result.err.startswith("train 1/1  loss ")
    assert result.err.count("\n") == 1  # the epoch is chosen on other users than the figures are of
    assert summary["users"] == {"fit": 60, "valid": 60}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        *("catalog.parquet", "config.toml", "log.csv", "manifest.json", "model.safetensors"),
    ]


@pytest.mark.parametrize("backbone", ["bert4rec", "gru4rec", "nextitnet"])
def test_every_backbone_goes_the_whole_way(backbone: str, store: Path, tmp_path: Path) -> None:
    setting = ("backbone.width=8", "backbone.max_length=12", "train.epochs=2", "train.schedule=linear")
    trained = leanrec("train", store, "--backbone", backbone, *setting, "--out", tmp_path / "run", "--json")
    assert (trained.code, trained.json["epochs"]) == (0, 2)
    result = leanrec("evaluate", tmp_path / "run", "--json").json
    assert result["metrics"].keys() == METRICS
    assert 0 < result["cost"]["flops_per_user"] <= result["cost"]["flops_full"]
    answer = leanrec("recommend", tmp_path / "run", "--history", "item-3,item-4", "-k", "5", "--json").json
    assert len(answer["items"]) == 5


def test_train_for_people(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    setting = ["train.epochs=1", "train.loss_precision=float32", "train.encoder_precision=float32"]
    shown = leanrec(
        "train", store, "--recipe", "demo-small", "--backbone", "nextitnet", "--out", tmp_path / "no", *setting
    )
    assert shown.error.startswith("unknown config key 'backbone.heads'")  # the recipe's fields are SASRec's
    shown = leanrec("train", store, "--recipe", "demo-small", "--out", out, *setting)
    manifest = read_manifest(out)
    assert shown.code == 0
    assert f"{manifest.train.valid['ndcg@10']:.4f}" in shown.out
    assert f"next: leanrec evaluate {out}" in "".join(line.rstrip() for line in shown.out.splitlines())
    assert "epochs and routes chosen on 60 validation users, figures of 60 others" in shown.out
    assert manifest.config["backbone"]["width"] == 16


def test_evaluate(run: Path) -> None:
    result = leanrec("evaluate", run, "--json")
    found = result.json
    assert result.err == ""
    assert list(found) == ["run", "split", "users", "items", "exclude_seen", "metrics", "ci95", "cost", "routes"]
    assert (found["split"], found["users"], found["items"], found["exclude_seen"]) == ("test", 120, 40, False)
    assert found["metrics"].keys() == found["ci95"].keys() == METRICS
    for name, (low, high) in found["ci95"].items():
        assert 0 <= low <= found["metrics"][name] <= high <= 1
    assert list(found["cost"]) == ["params", "bytes", "flops_per_user", "flops_full", "flops_ratio", "body_ratio"]
    assert found["cost"]["flops_ratio"] == 1.0
    assert 0 < found["cost"]["flops_full"] <= read_manifest(run).cost.flops
    assert found["routes"] == {"full": 1.0}


def test_evaluate_the_validation_part_as_training_did(run: Path) -> None:
    found = leanrec("evaluate", run, "--split", "valid", "--json").json
    assert found["metrics"] == read_manifest(run).train.valid


def test_leaving_seen_items_out_changes_the_ranks(run: Path) -> None:
    kept, left = (leanrec("evaluate", run, *flag, "--json").json for flag in ((), ("--exclude-seen",)))
    assert left["exclude_seen"]
    assert left["metrics"] != kept["metrics"]


def test_evaluate_for_people(run: Path) -> None:
    found, shown = leanrec("evaluate", run, "--json").json, leanrec("evaluate", run)
    low, high = found["ci95"]["ndcg@10"]
    assert f"{found['metrics']['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]" in shown.out
    assert "on test: 120 users, 40 items, seen items kept" in shown.out
    assert f"{found['cost']['params']:,}" in shown.out
    assert "seen items left out" in leanrec("evaluate", run, "--exclude-seen").out


def test_per_user_ranks_make_the_metrics(run: Path, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    found = leanrec("evaluate", run, "--exclude-seen", "--per-user", path, "--json").json
    frame = pl.read_parquet(path)
    assert frame.columns == ["user", "target", "rank", "route", "flops"]
    assert frame["user"].to_list() == pl.read_parquet(store / "users.parquet")["user"].to_list()
    assert set(frame["target"]) <= set(KEYS)
    assert summarise(frame["rank"].to_numpy()) == found["metrics"]
    assert found["cost"]["flops_per_user"] == frame["flops"].mean()
    assert set(frame["route"]) == {"full"}


def test_per_user_targets_are_the_last_items(run: Path, log: Path, tmp_path: Path) -> None:
    leanrec("evaluate", run, "--per-user", tmp_path / "users.parquet")
    last = dict(pl.read_csv(log).select("user", "item").iter_rows())
    assert dict(pl.read_parquet(tmp_path / "users.parquet", columns=["user", "target"]).iter_rows()) == last


def test_a_simulated_shop_shows_what_was_reachable(tmp_path: Path) -> None:
    data, out = tmp_path / "shop", tmp_path / "run"
    assert leanrec("data", "simulate", "--users", 60, "--out", data).code == 0
    assert leanrec("train", data, "--backbone", "sasrec", *TINY, "train.epochs=1", "--out", out).code == 0
    found = leanrec("evaluate", out, "--json").json
    assert found["kinds"].keys() == {"habit", "memory", "composer"}
    assert found["oracle"].keys() == {"all", "habit", "memory", "composer"}
    shown = leanrec("evaluate", out).out
    assert f"{found['kinds']['habit']['ndcg@10']:.4f} of {found['oracle']['habit']['ndcg@10']:.4f} reachable" in shown


def test_cost(run: Path) -> None:
    found = leanrec("cost", run, "--json").json
    assert list(found) == ["params", "bytes", "routes", "flops_full"]
    assert found["routes"] == [{"route": "full", "flops": found["flops_full"]}]
    assert found["bytes"] == 4 * found["params"]
    assert f"{found['params']:,}" in leanrec("cost", run).out


def test_bench(run: Path, store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert leanrec("train", store, "--backbone", "nextitnet", "train.epochs=1", "--out", other).code == 0
    result = leanrec("bench", run, other, "--batch", "1,4", "--seconds", 0.1, "-k", 3, "--json")
    found = result.json
    assert result.err == ""
    assert list(found) == ["machine", "rows", "ratios"]
    assert [(row["run"], row["batch"]) for row in found["rows"]] == [
        *((str(path), 1) for path in (run, other)),
        *((str(path), 4) for path in (run, other)),
    ]
    assert found["rows"][0].keys() == {"run", "batch", "p50_ms", "p99_ms", "users_per_s", "rss_mb"}
    assert [ratio["p50"] for ratio in found["ratios"] if ratio["run"] == str(run)] == [1.0, 1.0]
    shown = leanrec("bench", run, "--batch", "1", "--seconds", 0.1).out
    assert "p99 ms" in shown and "runs taking turns" in shown


def test_recommend_to_one_user(run: Path) -> None:
    result = leanrec("recommend", run, "--history", "item-3,item-4", "-k", 5, "--json")
    found = result.json
    assert result.err == ""
    assert list(found) == ["items", "route", "flops_ratio", "unknown"]
    assert (found["route"], found["flops_ratio"], found["unknown"]) == ("full", 1.0, [])
    assert [item.keys() for item in found["items"]] == [{"item", "title", "score"}] * 5
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)
    shown = leanrec("recommend", run, "--history", "item-3,item-4", "-k", 5).out
    assert all(item["item"] in shown for item in found["items"])


def test_an_unknown_item_is_named_and_skipped(run: Path) -> None:
    result = leanrec("recommend", run, "--history", "item-3,:smile: [/y],item-4", "--json")
    assert result.err == "warning: unknown item ':smile: [/y]' skipped\n"
    assert result.json["unknown"] == [":smile: [/y]"]
    assert result.json["items"] == leanrec("recommend", run, "--history", "item-3,item-4", "--json").json["items"]


def quoted(key: str) -> str:
    return '"' + key.replace('"', '""') + '"' if set(key) & set(',"') else key


def test_awkward_names_survive_from_the_log_to_the_answer(run: Path) -> None:
    history = ",".join(map(quoted, AWKWARD))
    found = leanrec("recommend", run, "--history", history, "-k", 40, "--json").json
    assert found["unknown"] == []
    assert {item["item"] for item in found["items"]} == {item["title"] for item in found["items"]} == set(KEYS)
    shown = leanrec("recommend", run, "--history", history, "-k", 40).out
    assert all(key in shown for key in AWKWARD)
    left = leanrec("recommend", run, "--history", history, "-k", 40, "--exclude-seen", "--json").json
    assert {item["item"] for item in left["items"]} == set(KEYS) - set(AWKWARD)


def test_recommend_to_all_users(run: Path, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    result = leanrec("recommend", run, "--data", store, "--out", path, "-k", 4, "--json")
    assert result.json == {"users": 120, "k": 4, "out": str(path), "bytes": path.stat().st_size}
    assert result.err == ""
    frame = pl.read_parquet(path)
    assert frame.columns == ["user", "rank", "item", "title", "score"]
    assert frame.height == 480
    assert frame["rank"].to_list() == [1, 2, 3, 4] * 120
    shown = leanrec("recommend", run, "--data", store, "--out", path, "-k", 4)
    assert "120" in shown.out and str(path) in shown.out.replace("\n", "")


@pytest.mark.parametrize("k", [41, 10**12])
def test_k_above_the_catalogue_gives_what_there_is(k: int, run: Path, store: Path, tmp_path: Path) -> None:
    assert len(leanrec("recommend", run, "--history", "item-3", "-k", k, "--json").json["items"]) == 40
    path = tmp_path / "top.parquet"
    assert leanrec("recommend", run, "--data", store, "--out", path, "-k", k, "--json").json["k"] == 40
    assert pl.read_parquet(path).height == 120 * 40


def test_several_histories(run: Path, tmp_path: Path) -> None:
    one, two = (
        leanrec("recommend", run, "--history", key, "--json").json for key in ("item-3,zebra", '"comma, inside"')
    )
    given = leanrec("recommend", run, "--history", "item-3,zebra", "--history", '"comma, inside"', "--json")
    assert [a["items"][0]["item"] for a in given.json["answers"]] == [a["items"][0]["item"] for a in (one, two)]
    assert given.err == "warning: unknown item 'zebra' skipped in history 1\n"
    (tmp_path / "baskets.txt").write_text('item-3,zebra\nzebra\n"comma, inside"\n', encoding="utf-8")
    found = leanrec("recommend", run, "--histories", tmp_path / "baskets.txt", "--json")
    assert found.json["answers"] == [given.json["answers"][0], None, given.json["answers"][1]]
    assert found.err.endswith("warning: no known item in history 2, which is not answered\n")
    shown = leanrec("recommend", run, "--histories", tmp_path / "baskets.txt").out
    assert "history 1: route full" in shown and "history 2" not in shown and "history 3: route full" in shown


def test_a_line_without_a_history_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "baskets.txt").write_text("item-3\n\nitem-4\n", encoding="utf-8")
    error = leanrec("recommend", run, "--histories", tmp_path / "baskets.txt").error
    assert error == f"expected a history KEY,KEY,... in every line of {tmp_path / 'baskets.txt'}, got none in line 2"


def test_chosen_users(run: Path, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    leanrec("recommend", run, "--data", store, "--out", path, "-k", 3)
    every = pl.read_parquet(path)
    chosen = ("--user", "user 70", "--user", "user 7")
    found = leanrec("recommend", run, "--data", store, *chosen, "-k", 3, "--json").json["answers"]
    assert [answer["user"] for answer in found] == ["user 70", "user 7"]
    for answer in found:
        items = every.filter(pl.col("user") == answer["user"])["item"].to_list()
        assert [item["item"] for item in answer["items"]] == items
    leanrec("recommend", run, "--data", store, *chosen, "-k", 3, "--out", path)
    same = every.filter(pl.col("user").is_in(["user 7", "user 70"])).drop("score")
    assert pl.read_parquet(path).drop("score").equals(same)
    assert "user user 70" in leanrec("recommend", run, "--data", store, *chosen, "-k", 3).out
    error = leanrec("recommend", run, "--data", store, "--user", "nobody").error
    assert error == f"expected users of {store}, such as 'user 0', got 'nobody'; check --user"


def test_one_user_and_all_users_get_the_same(run: Path, store: Path, log: Path, tmp_path: Path) -> None:
    leanrec("recommend", run, "--data", store, "--out", tmp_path / "top.parquet", "-k", 4, "--exclude-seen")
    events = pl.read_csv(log).filter(pl.col("user") == "user 7")
    history = ",".join(map(quoted, events["item"]))
    one = leanrec("recommend", run, "--history", history, "-k", 4, "--exclude-seen", "--json").json["items"]
    among = pl.read_parquet(tmp_path / "top.parquet").filter(pl.col("user") == "user 7")
    assert among["item"].to_list() == [item["item"] for item in one]
    np.testing.assert_allclose(among["score"], [item["score"] for item in one], rtol=1e-5, atol=1e-6)


def test_a_moved_store_is_named_with_data(store: Path, run: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(store, data)
    assert leanrec("train", data, "--backbone", "sasrec", *TINY, "train.epochs=2", "--out", out).code == 0
    moved = data.rename(tmp_path / "moved")
    assert (
        leanrec("evaluate", out).error == f"expected the store of {out}, got none at {data}; name its place with --data"
    )
    found = leanrec("evaluate", out, "--data", moved, "--json").json
    assert found["metrics"] == leanrec("evaluate", run, "--json").json["metrics"]
