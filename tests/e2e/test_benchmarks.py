"""The commands of benchmarks run, on something tiny: a figure that cannot be repeated is no figure."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from benchmarks.external import Line

from leanrec.data.simulate import Shop, simulate
from toys import chain_store

Figures = dict[str, dict[str, float]]
"""Variant -> metric -> value."""


def script(name: str) -> ModuleType:
    """A command as a module."""
    return importlib.import_module(f"benchmarks.commands.{name}")


class Printed:
    """Runs commands and reads what they print, as the driver does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.lines: list[Line] = []

    def __call__(self, name: str, *options: object) -> Figures:
        self.monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        script(name).main()
        printed = self.capsys.readouterr().out.splitlines()
        self.lines = [msgspec.json.decode(line, type=Line) for line in printed if line.startswith("{")]
        found: Figures = {}
        for line in self.lines:
            found.setdefault(line.variant, {})[line.metric] = line.value
        return found


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    return Printed(monkeypatch, capsys)


def test_epoch(log: Path, printed: Printed) -> None:
    found = printed("epoch", "--log", log, "--epochs", 2, "--rounds", 1, "--set", "backbone.width=8")
    ((variant, figures),) = found.items()
    assert variant.startswith("shop/softmax/") and {"epoch_s, 1", "epoch_s, 2", "epoch_median_s"} <= figures.keys()
    for label in ("kept", "excluded"):  # the lists and the ranks come from different code
        assert figures[f"hr@10_{label}_of_lists"] == pytest.approx(figures[f"hr@10_{label}"], abs=0.02)
    assert {line.unit for line in printed.lines if line.metric.startswith("epoch_")} == {"s"}


@pytest.mark.slow
def test_slim(tmp_path: Path, printed: Printed) -> None:
    simulate(Shop(users=120), tmp_path / "tiny")
    shape = ["--recipe", "demo-small", "--techniques", "none", "--export", "none", "train.epochs=1"]
    found = printed("slim", tmp_path / "tiny", "--out", tmp_path / "out", "--", *shape)
    told = json.loads((tmp_path / "out" / "slim.json").read_text())
    assert found[""]["full ndcg@10"] == pytest.approx(told["baseline"]["metrics"]["ndcg@10"], abs=1e-5)


def test_import(tmp_path: Path, printed: Printed) -> None:
    command = [sys.executable, "-m", "benchmarks.commands.import_log", "--rows", "5000", "--out", tmp_path]
    root = Path(__file__).parents[2]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.splitlines()
    found = {line.metric: line for line in (msgspec.json.decode(line, type=Line) for line in lines)}
    assert found["rows"].value == 5000 and found["peak_mb"].unit == "MB"


def test_layers(printed: Printed) -> None:
    found = printed("layers", "--width", 8, "--length", 6, "--seconds", 0)
    assert list(found) == ["bert4rec", "cells", "gru4rec", "nextitnet", "sasrec"]
    gru = found["gru4rec"]
    assert gru["params per layer"] == 3 * (2 * 8 * 8 + 2 * 8) + 2 * 8
    assert gru["FLOPs per layer"] == 6 * 3 * 2 * 2 * 8 * 8


def test_refresh(tmp_path: Path, printed: Printed) -> None:
    store, out = chain_store(tmp_path / "data", 80, 15, timed=True), tmp_path / "out"
    options = [store.path, "--out", out, "--recipe", "followers", "--end", 0.95]
    found = printed("refresh", *options)
    assert list(found) == ["old", "full", "refreshed", "row-10", "popular", "recent", "followers", "repeat"]
    assert found["full"]["ndcg@10 ratio to full"] == found["refreshed"]["ndcg@10 ratio to full"] == 1  # counted anew
    assert found["row-10"]["ndcg@10"] == pytest.approx(found["full"]["ndcg@10"])
    assert found["full"]["users"] < found["full"]["targets"] <= store.num_events * 0.08
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/manifest.json")}
    assert len(kept) == 13 and printed("refresh", *options) == found
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.slow
def test_recbole(tmp_path: Path, printed: Printed) -> None:
    """With a stand-in for the interpreter that has RecBole."""
    lines = [f"{user} {1 + (user + step) % 9}" for user in range(30) for step in range(5)]
    (tmp_path / "log.txt").write_text("\n".join(lines))
    peer = tmp_path / "python"
    peer.write_text('#!/bin/sh\necho \'{"epoch_s": 9000.0, "steps": 10, "steps_timed": 2, "version": "stand-in"}\'\n')
    peer.chmod(0o755)
    options = ["--log", tmp_path / "log.txt", "--recbole", peer, "--width", 8, "--blocks", 2, "--length", 5]
    found = printed("recbole", *options, "--rounds", 2)
    assert list(found) == ["1", "2"]
    for figures in found.values():
        assert figures["times faster"] == pytest.approx(9000 / figures["our epoch, s"], rel=0.01, abs=0.1)
    assert "RecBole's steps timed: 2 of 10" in printed.lines[0].note


@pytest.mark.slow
def test_compressed(tmp_path: Path, run: Path, printed: Printed) -> None:
    again = tmp_path / "again"
    again.symlink_to(run)
    found = printed("compressed", run, again, "--seconds", 0)
    assert list(found) == [run.name, "again"]
    for figures in found.values():
        assert figures["ms of a training step"] > 0 and figures["peak MB, batch 128"] > 0


def test_engine_on_many_items(printed: Printed) -> None:
    found = printed("engine", "million", "--items", 3000, "--seconds", 0)
    recall = {how: figures["recall@10"] for how, figures in found.items()}
    assert set(recall) == {"read-once", "float32-numpy", "float32-torch", "int8-screen-float32-again"}
    assert recall["int8-screen-float32-again"] == 1


def test_engine_on_a_batch(printed: Printed) -> None:
    shape = ("--width", 8, "--layers", 1, "--users", 3, "--length", 6, "--items", 50, "--square", 32)
    found = printed("engine", "batch", *shape, "--seconds", 0)
    assert list(found) == ["eager", "float32", "onnx", "bfloat16"]


def test_engine_beside_a_peer() -> None:
    figures = iter([{"median_ms": 3.0}, {"median_ms": 5.0}])
    peer = f'other={sys.executable} -c "print(\'noise\'); print(\'{{\\"latency_own_history\\": {{\\"median_ms\\": 8.0}}}}\')"'
    beside, asked = script("peers").beside, (("latency_own_history",), "median_ms")
    assert beside({"ours": lambda: next(figures)}, [peer], *asked) == [
        {"who": "ours", "median_ms": 4.0, "beside": "other", "times ours": 2.0},
        {"who": "other", "median_ms": 8.0, "beside": "", "times ours": ""},
    ]
    assert beside({"ours": lambda: {"median_ms": 2.0}}, [], *asked) == [{"who": "ours", "median_ms": 2.0}]


@pytest.mark.parametrize(
    ("what", "more", "measured"),
    [
        ("serve", ["--quota", "--seconds", 0.2], ["p50", "p99"]),
        pytest.param("everyone", ["--busy", 0], ["wall"], marks=pytest.mark.slow),
    ],
)
def test_threads(what: str, more: list[object], measured: list[str], run: Path, printed: Printed) -> None:
    found = printed("threads", what, run, *more, "--by-hand", 1, "--rounds", 1)
    assert [variant.rpartition("/")[2] for variant in found] == ["as-it-comes", "OMP_NUM_THREADS-1"]
    assert all(variant.split("/")[1] != "none" or what == "everyone" for variant in found)
    for name in measured:
        own, best = (figures[f"{name}_ms"] for figures in found.values())
        assert [figures[f"{name}_times"] for figures in found.values()] == [pytest.approx(own / best), 1]


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
