"""The benchmarks run, on something tiny: a figure that cannot be repeated is no figure."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from e2e.conftest import write_log
from leanrec.data.simulate import Shop, simulate
from leanrec.data.store import Store

FOLDER = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    """A benchmark as a module; as when it is run, it finds its neighbours."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_epoch(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--log", log, "--epochs", 2, "--rounds", 1, "--set", "backbone.width=8"]
    monkeypatch.setattr(sys, "argv", ["epoch", *map(str, options)])
    script("epoch").main()
    result = json.loads(capsys.readouterr().out)
    assert len(result["epoch_s"]) == 2
    for label in ("kept", "excluded"):  # the lists and the ranks come from different code
        assert result[f"hr@10_{label}_of_lists"] == pytest.approx(result[f"hr@10_{label}"], abs=0.02)


def test_slim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("slim")
    simulate(Shop(users=120), tmp_path / "work" / "data" / "tiny")
    shape = ["--recipe", "demo-small", "--techniques", "none", "--export", "none", "train.epochs=1"]
    monkeypatch.setattr(module, "CASES", {"tiny": shape})
    options = ["--work", tmp_path / "work", "--out", tmp_path / "out.csv"]
    monkeypatch.setattr(sys, "argv", ["slim", *map(str, options)])
    module.main()
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text("utf-8").splitlines())
    found = json.loads((tmp_path / "work" / "slim" / "tiny" / "slim.json").read_text())
    assert float(row["full ndcg@10"]) == pytest.approx(found["baseline"]["metrics"]["ndcg@10"], abs=1e-5)
    assert row["chosen"] == (found["chosen"] or {}).get("name", "")


@pytest.mark.parametrize("started", [False, True], ids=["from scratch", "from another run"])
def test_quality(started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path / "log.csv")
    module = script("quality")
    monkeypatch.setattr(module, "LOGS", {"tiny": "log.csv"})
    monkeypatch.setattr(module, "RUNS", {"tiny": ("tiny", "demo-small")})
    monkeypatch.setattr(module, "STARTS", {"tiny": "demo-small"} if started else {})
    options = [
        "--logs",
        tmp_path,
        "--work",
        tmp_path / "work",
        "--out",
        tmp_path / "out.csv",
        "--set",
        "train.epochs=1",
    ]
    monkeypatch.setattr(sys, "argv", ["quality", *map(str, options)])
    module.main()
    module.main()  # the run is there: it is evaluated again, not trained
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["epochs"] for row in rows] == ["1", "1"]
    assert rows[0] == rows[1]


def test_import(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "import_20m.py", "--rows", "5000", "--out", tmp_path]
    header, row = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert header.startswith("rows,users,items,")
    assert row.startswith("5000,")


def test_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--width", 8, "--length", 6, "--seconds", 0, "--out", tmp_path / "layers.csv"]
    monkeypatch.setattr(sys, "argv", ["layers", *map(str, options)])
    script("layers").main()
    rows = list(csv.DictReader((tmp_path / "layers.csv").read_text().splitlines()))
    assert [row["backbone"] for row in rows] == ["bert4rec", "cells", "gru4rec", "nextitnet", "sasrec"]
    gru = rows[2]
    assert float(gru["params per layer"]) == 3 * (2 * 8 * 8 + 2 * 8) + 2 * 8
    assert float(gru["FLOPs per layer"]) == 6 * 3 * 2 * 2 * 8 * 8


def test_against_recbole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the interpreter that has RecBole."""
    lines = [f"{user} {1 + (user + step) % 9}" for user in range(30) for step in range(5)]
    (tmp_path / "log.txt").write_text("\n".join(lines))
    peer = tmp_path / "python"
    peer.write_text('#!/bin/sh\necho \'{"epoch_s": 9000.0, "steps": 10, "steps_timed": 2, "version": "stand-in"}\'\n')
    peer.chmod(0o755)
    options = ["--log", tmp_path / "log.txt", "--recbole", peer, "--width", 8, "--blocks", 2, "--length", 5]
    options += ["--rounds", 2, "--out", tmp_path / "out.csv"]
    monkeypatch.setattr(sys, "argv", ["against_recbole", *map(str, options)])
    script("against_recbole").main()
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [(row["round"], row["RecBole"], row["RecBole's steps timed"]) for row in rows] == [
        ("1", "stand-in", "2 of 10"),
        ("2", "stand-in", "2 of 10"),
    ]
    for row in rows:
        assert float(row["times faster"]) == pytest.approx(9000 / float(row["our epoch, s"]), rel=0.01, abs=0.1)


@pytest.mark.parametrize(
    ("name", "more", "controls", "extra"),
    [
        ("canet", [], ["continued", "small"], ["canet-continued", "canet-small"]),
        (
            "skiprec",
            ["--extra", "depth"],
            ["continued", "small", "depth"],
            ["skiprec-continued", "skiprec-small", "skiprec-depth"],
        ),
    ],
)
def test_routed(
    name: str,
    more: list[str],
    controls: list[str],
    extra: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = script(name)
    tiny = ["backbone.width=8", "backbone.layers=2", "backbone.max_length=8", "train.epochs=2"]
    plan = module.PLAN._replace(cases={"shop": module.Case("shop", tiny)})
    simulate(Shop(users=60), tmp_path / "work" / "data" / "shop")
    options = [
        "--work",
        tmp_path / "work",
        "--only",
        "shop",
        "--continued",
        "--small",
        "--out",
        tmp_path / "out.csv",
        *more,
    ]
    monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
    module.main(plan, "")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    drawn = ["rates", "coin"] if name == "skiprec" else []
    expected = ["learned", "whole", "static", "matched", "uniform", "oracle", *drawn, "full", *controls]
    assert [row["routes"] for row in rows if row["routes"] != "curve"] == expected
    assert all(float(row["budget"]) > 0 and row["part"] == "test" for row in rows)
    trained = {path.name for path in (tmp_path / "work" / "shop-0").iterdir()}
    assert trained == {name, f"{name}-full", *extra}
    if name == "skiprec":
        out = tmp_path / "time.csv"
        pair = ["--full", "skiprec-full", "--lean", "skiprec", "--budgets", rows[0]["budget"]]
        options = [tmp_path / "work" / "shop-0", *pair, "--seconds", 0.1, "--out", out]
        monkeypatch.setattr(sys, "argv", ["served_time", *map(str, options)])
        script("served_time").main()
        timed = list(csv.DictReader(out.read_text().splitlines()))
        assert [(row["data"], row["seed"], row["served"], row["batch"]) for row in timed] == [
            ("shop", "0", served, batch) for served in ("run", "export") for batch in ("1", "256")
        ]
        assert all(float(row["times as fast, users/s"]) > 0 for row in timed)


def test_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, timing = script("cprec"), script("cprec_time")
    tiny = ["backbone.name=sasrec", "backbone.width=16", "backbone.max_length=8", "train.epochs=2"]
    monkeypatch.setattr(module, "CASES", {"shop-sasrec": module.Case("shop", tiny)})
    monkeypatch.setattr(
        module, "VARIANTS", {name: module.VARIANTS[name] for name in ("tied-4-int8", "blocks-8", "codes-8")}
    )
    simulate(Shop(users=60), tmp_path / "work" / "data" / "shop")
    options = [
        "--work",
        tmp_path / "work",
        "--out",
        tmp_path / "out.csv",
        "--continued",
        "--int8",
        "--variants",
        *module.VARIANTS,
    ]
    monkeypatch.setattr(sys, "argv", ["cprec", *map(str, options)])
    module.main()
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    exported = rows[1::2]
    assert all(float(row["times smaller file"]) > 1 and row["model"].endswith(", exported in int8") for row in exported)
    assert all(
        abs(float(row["ndcg@10"]) - float(run["ndcg@10"])) < 0.1 for row, run in zip(exported, rows[::2], strict=True)
    )
    rows = rows[::2]
    assert [row["model"] for row in rows] == ["full", "continued", "tied-4-int8", "blocks-8", "codes-8"]
    assert [float(row["times smaller"]) > 1 for row in rows] == [False, False, True, True, True]
    assert float(rows[2]["times smaller table"]) > 8 and rows[3]["lists that differ"] == "0"
    runs = [tmp_path / "work" / "shop-sasrec-0" / f"cprec-{model}" for model in ("full", "codes-8")]
    options = [*runs, "--seconds", 0, "--out", tmp_path / "time.csv"]
    monkeypatch.setattr(sys, "argv", ["cprec_time", *map(str, options)])
    timing.main()
    rows = list(csv.DictReader((tmp_path / "time.csv").read_text().splitlines()))
    assert [row["run"] for row in rows] == [str(run) for run in runs]
    assert all(float(row["ms of a training step"]) > 0 and float(row["peak MB, batch 128"]) > 0 for row in rows)
    assert float(rows[1]["MB of the export's files"]) < float(rows[0]["MB of the export's files"])


def test_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("cprec")
    tiny = ["backbone.name=nextitnet", "backbone.width=16", "backbone.max_length=8", "train.epochs=1"]
    monkeypatch.setattr(module, "CASES", {"shop-nextitnet": module.Case("shop", tiny)})
    kept = {name: module.ABLATION[name] for name in ("none/cross-layer", "both/none")}
    assert len(module.ABLATION) == 4 * 5
    monkeypatch.setattr(module, "ABLATION", kept)
    simulate(Shop(users=60), tmp_path / "work" / "data" / "shop")
    options = ["--work", tmp_path / "work", "--out", tmp_path / "out.csv", "--ablation", "--scratch"]
    monkeypatch.setattr(sys, "argv", ["cprec", *map(str, options)])
    module.main()
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["full", "none/cross-layer-scratch", "both/none-scratch"]


def test_adarec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("adarec")
    small = ["backbone.width=16", "backbone.layers=2", "backbone.max_length=8", "train.epochs=1"]
    student = ["backbone.width=4", "backbone.max_length=8", "train.epochs=1", "technique.adarec.search_epochs=1"]
    case = module.Case("shop", [*module.NEXTITNET, *small], [*student, "backbone.layers=2", "backbone.nodes=1"])
    simulate(Shop(users=60), tmp_path / "work" / "data" / "shop")
    monkeypatch.setattr(module, "SHRINK", 2)
    monkeypatch.setattr(module, "CODED", {"codes": 2, "int8": True})
    monkeypatch.setattr(module, "OTHERS", {"of tiny": "tiny"})
    models = ["alone", "random", "isomorphic", "coded", "fixed", "inherited", "of tiny"]
    options = ["--work", tmp_path / "work", "--out", tmp_path / "out.csv", "--seconds", 0.1, "--models", *models]
    monkeypatch.setattr(sys, "argv", ["adarec", *map(str, options)])
    module.main({"tiny": case}, module.arguments())
    rows = {row["model"]: row for row in csv.DictReader((tmp_path / "out.csv").read_text().splitlines())}
    assert list(rows) == ["teacher", "searched", *models]
    assert float(rows["searched"]["ndcg@10 lead of searched"]) == 0
    same = {rows[model]["architecture"] for model in ("searched", "alone", "inherited", "of tiny")}
    assert len(same) == 1 and "" not in same
    assert float(rows["searched"]["times fewer params"]) >= 2 and rows["teacher"]["times as fast, batch 1"] == "1.0"
    assert float(rows["random"]["flops"]) == pytest.approx(float(rows["searched"]["flops"]), rel=module.NEAR)
    assert all(float(rows[model]["times fewer body params"]) >= 2 for model in ("searched", "random"))
    assert float(rows["coded"]["times fewer bytes"]) > float(rows["searched"]["times fewer bytes"])
    again = ["--models", "alone", "of tiny", "--ahead", "alone", "--out", tmp_path / "ahead.csv"]
    monkeypatch.setattr(sys, "argv", ["adarec", *map(str, [*options, *again])])
    module.main({"tiny": case}, module.arguments())
    ahead = {row["model"]: row for row in csv.DictReader((tmp_path / "ahead.csv").read_text().splitlines())}
    assert list(ahead) == ["teacher", "searched", "alone", "of tiny"]
    assert all(float(ahead[model]["ndcg@10 lead of alone"]) == 0 for model in ("alone", "of tiny"))
    pair = [tmp_path / "work" / "tiny-0", "--full", "teacher", "--lean", "searched", "--runs"]
    monkeypatch.setattr(
        sys, "argv", ["served_time", *map(str, pair), "--seconds", "0.1", "--out", str(tmp_path / "time.csv")]
    )
    script("served_time").main()
    timed = list(csv.DictReader((tmp_path / "time.csv").read_text().splitlines()))
    assert [(row["lean"], row["budget"], row["served"], row["batch"]) for row in timed] == [
        ("searched", "", "run", batch) for batch in ("1", "256")
    ]


def test_adarec_takes_architectures_of_other_logs_from_runs_or_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("adarec")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match=r"expected a searched student of tiny in .*, got none; run it first"):
        module.architecture_of("tiny", 0, tmp_path)
    rows = (
        "data,seed,model,architecture",
        "tiny,0,alone,skip",
        "tiny,0,searched,conv3 none",
        "tiny,1,searched,skip max3",
    )
    (tmp_path / "adarec-1.csv").write_text("\n".join([*rows, "other,2,searched,skip"]))
    found = [module.architecture_of("tiny", seed, tmp_path) for seed in (0, 1, 2)]
    assert found == [["conv3", "none"], ["skip", "max3"], ["conv3", "none"]]


def test_adarec_says_where_nothing_drawn_meets_the_budget(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("adarec")
    monkeypatch.setattr(module, "DRAWS", 3)
    backbone = {"name": "cells", "width": 4, "layers": 1, "nodes": 1, "max_length": 8, "architecture": ["skip"]}
    tree = {"backbone": backbone, "technique": {"adarec": {"max_params": 10}}, "train": {"epochs": 1}}
    searched = SimpleNamespace(manifest=SimpleNamespace(cost=SimpleNamespace(flops=100)))
    with pytest.raises(
        SystemExit, match=r"^expected an architecture of at most 10 parameters among 3 drawn, got none$"
    ):
        module.drawn(tree, searched, tiny_store.catalog, 0)


def engine_rows(monkeypatch: pytest.MonkeyPatch, out: Path, *options: object) -> list[dict[str, str]]:
    monkeypatch.setattr(sys, "argv", ["engine", *map(str, options), "--out", str(out)])
    script("engine").main()
    return list(csv.DictReader(out.read_text().splitlines()))


def test_engine_on_many_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = engine_rows(monkeypatch, tmp_path / "rows.csv", "million", "--items", 3000, "--seconds", 0, "--index")
    recall = {row["how"]: float(row["recall@10"]) for row in rows}
    assert set(recall) == {"read once", "float32, numpy", "float32, torch", "int8 screen, float32 again", "index"}
    assert recall["int8 screen, float32 again"] == 1 and 0.3 < recall["index"] <= 1


def test_engine_on_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ("--width", 8, "--layers", 1, "--users", 3, "--length", 6, "--items", 50, "--square", 32)
    rows = engine_rows(monkeypatch, tmp_path / "rows.csv", "batch", *shape, "--seconds", 0)
    assert [row["engine"] for row in rows] == ["eager", "float32", "onnx", "bfloat16"]


def test_engine_beside_a_peer() -> None:
    figures = iter([{"median_ms": 3.0}, {"median_ms": 5.0}])
    peer = f'other={sys.executable} -c "print(\'noise\'); print(\'{{\\"latency_own_history\\": {{\\"median_ms\\": 8.0}}}}\')"'
    beside, asked = script("engine").beside, (("latency_own_history",), "median_ms")
    assert beside({"ours": lambda: next(figures)}, [peer], *asked) == [
        {"who": "ours", "median_ms": 4.0, "beside": "other", "times ours": 2.0},
        {"who": "other", "median_ms": 8.0, "beside": "", "times ours": ""},
    ]
    assert beside({"ours": lambda: {"median_ms": 2.0}}, [], *asked) == [{"who": "ours", "median_ms": 2.0}]


@pytest.mark.parametrize(
    ("what", "more", "measured"),
    [("serve", ["--quota", "--seconds", 0.2], ["p50", "p99"]), ("everyone", ["--busy", 0], ["wall"])],
)
def test_threads(
    what: str, more: list[object], measured: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [what, run, *more, "--by-hand", 1, "--rounds", 1, "--out", tmp_path / "rows.csv"]
    monkeypatch.setattr(sys, "argv", ["threads", *map(str, options)])
    script("threads").main()
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [row["setting"] for row in rows] == ["as it comes", "OMP_NUM_THREADS=1"]
    for name in measured:
        own, best = (float(row[f"{name}_ms"]) for row in rows)
        assert [float(row[f"{name}_times"]) for row in rows] == [pytest.approx(own / best), 1]
    assert all((row["quota"] == "none") == (what == "everyone") for row in rows)


def test_threads_are_compared_with_the_best_by_hand() -> None:
    rounds = {
        "as it comes": [{"p50": 2.0}, {"p50": 4.0}, {"p50": 3.0}],
        "OMP_NUM_THREADS=1": [{"p50": 1.0}, {"p50": 2.0}, {"p50": 1.0}],
        "OMP_NUM_THREADS=2": [{"p50": 0.5}, {"p50": 9.0}, {"p50": 9.0}],
    }
    rows = dict(script("threads").compared(rounds))
    assert rows["as it comes"] == {"rounds": 3, "p50_ms": 3, "p50_times": 2, "p50_low": 2, "p50_high": 3}
    assert [row["p50_times"] for row in rows.values()] == [2, 1, 9 / 2]


def test_where_no_group_can_be_made_there_is_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("threads")
    (tmp_path / "no group").mkdir()
    monkeypatch.setattr(
        module, "GROUPS", [("v1", tmp_path / "nothing", {}), ("v2", tmp_path / "no group", {"cpu.max": "1 1"})]
    )
    code = "import os; print(len(os.sched_getaffinity(0)))"
    with module.limited() as (how, prefix):
        done = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (how, done.stdout.strip()) == ("one core by affinity", "1")
    assert not list((tmp_path / "no group").iterdir())


def test_a_group_of_one_processor_is_what_the_project_reads() -> None:
    code = "from leanrec.core.processors import quotas, usable; print(quotas(), usable())"
    with script("threads").limited() as (how, prefix):
        if not how.startswith("cgroup"):
            pytest.skip("no control group can be made here")
        done = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1.0] 1"
