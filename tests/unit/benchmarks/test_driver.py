"""Cases of models are measured, resumed, and told apart when they change; on a shop that is as small as can be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from benchmarks import driver, repeated, rows
from benchmarks.__main__ import main
from benchmarks.cases import parse_case
from benchmarks.driver import Driver, Outcome, Places
from benchmarks.spec import Models
from benchmarks.state import Results, units

from leanrec.core.errors import ConfigError

ROOT = Path(__file__).parents[3]
TINY = """
about = "a tiny case"
log = "shop"
shop.users = 80
settings.backbone = { name = "sasrec", max_length = 8, layers = 2, heads = 1 }
settings.train.epochs = 2
measure = { forms = ["run"], batches = [1], seconds = 0.0, metrics = ["hr@10", "ndcg@10"], both = true }
[full]
settings.backbone.width = 12
[variants.chosen]
settings.backbone.width = 8
settings.train.epochs = 1
choose = { "backbone.dropout" = [0.1, 0.3] }
[variants.routed]
init = "full"
settings.backbone.width = 12
settings.technique.skiprec = { patterns = 3, random_patterns = 1 }
settings.train.epochs = 1
against = ["full", "chosen"]
budget = {}
budgets = [0.8]
routes = true
[variants.small]
derive = "small"
of = "routed"
settings.backbone.width = 12
settings.train.epochs = 1
"""
QUALITY = ("hr@10", "ndcg@10", "hr@10, seen kept", "ndcg@10, seen kept", "users", "flops")


def case_of(text: str = TINY) -> Models:
    case = parse_case("tiny", text, "tiny.toml")
    assert isinstance(case, Models)
    return case


def run(folder: Path, case: Models, only: tuple[str, ...] = (), hours: float | None = None) -> Outcome:
    places = Places(folder / "logs", folder / "work", folder / "results")
    return Driver(places, hours, tell=lambda text: None).run([case], only)


def states(folder: Path, case: Models) -> dict[tuple[str, str], str]:
    results = Results(case, folder / "results")
    return {(unit.variant, unit.kind): results.state(unit) for unit in units(case)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of the tiny case."""
    folder = tmp_path_factory.mktemp("measured")
    outcome = run(folder, case_of())
    assert not outcome.failed and not outcome.not_started and len(outcome.measured) == 8
    return folder


def test_every_model_has_its_rows(measured: Path) -> None:
    frame = rows.read(measured / "results" / "tiny.csv")
    assert set(states(measured, case_of()).values()) == {"measured"}
    test = frame.filter(part="test")
    for variant in ("full", "chosen", "routed", "routed@0.8", "small"):
        assert set(QUALITY) <= set(test.filter(variant=variant)["metric"]), variant
    assert {"routed/static", "routed/matched", "routed/oracle"} <= set(test["variant"])
    lead = test.filter(variant="routed", metric="ndcg@10 lead over full").row(0, named=True)
    ours, theirs = (test.filter(variant=name, metric="ndcg@10")["value"][0] for name in ("routed", "full"))
    assert lead["value"] == pytest.approx(ours - theirs) and lead["low"] <= lead["value"] <= lead["high"]
    assert test.filter(variant="routed/static", metric="flops ratio")["value"][0] < 1
    note = frame.filter(variant="chosen", metric="best epoch")["note"][0]
    assert note in ("backbone.dropout=0.1", "backbone.dropout=0.3")
    spent = dict(frame.filter(variant="routed", unit="s").select("metric", "value").iter_rows())
    assert spent["train core-seconds with what it was made of"] > spent["train core-seconds"] > 0
    timed = frame.filter(pl.col("metric") == "times as fast by p50, run, batch 1")
    assert set(timed["variant"]) == {"full", "chosen", "routed", "routed@0.8", "small"}
    assert frame.select(pl.col("commit", "config_sha", "machine", "torch", "date").str.len_chars().min() > 0).row(
        0
    ) == ((True,) * 5)


def test_what_is_measured_is_not_measured_again(measured: Path) -> None:
    before = (measured / "results" / "tiny.csv").read_bytes()
    outcome = run(measured, case_of())
    assert outcome.measured == [] and outcome.before == 8
    assert (measured / "results" / "tiny.csv").read_bytes() == before


def test_what_is_measured_is_measured_again_if_asked(tmp_path: Path) -> None:
    text = TINY[: TINY.index("[variants.chosen]")].replace("train.epochs = 2", "train.epochs = 1")
    for again in (False, True):
        places = Places(tmp_path / "logs", tmp_path / f"work-{again}", tmp_path / "results")
        outcome = Driver(places, tell=lambda text: None).run([case_of(text)], again=again)
    assert outcome.measured == ["tiny: full, seed 0"] and outcome.before == 1
    found = repeated.repeats(rows.read(tmp_path / "results" / "tiny.csv")).row(0, named=True)
    assert found["within"] == found["figures"] and found["value"] == found["value before"]


def test_another_configuration_is_stale_and_a_new_variant_is_missing(measured: Path) -> None:
    changed = TINY.replace("patterns = 3", "patterns = 4") + '[variants.new]\nlike = "full"\n'
    found = states(measured, case_of(changed))
    assert {key for key, state in found.items() if state == "missing"} == {("new", "quality"), ("new", "time")}
    stale = {variant for (variant, _), state in found.items() if state == "stale"}
    assert stale == {"routed", "small"}  # what follows from it, too


def test_without_a_full_model_all_are_timed_in_turns(tmp_path: Path) -> None:
    start = TINY[: TINY.index("[full]")]
    one, two = (
        "[variants.one]\nsettings.train.epochs = 1\n",
        '[variants.two]\nlike = "one"\nsettings.backbone.width = 8\n',
    )
    run(tmp_path, case_of(start + one))
    assert run(tmp_path, case_of(start + one + two)).measured == [
        "tiny: two, seed 0",
        "tiny: one, seed 0, time",
        "tiny: two, seed 0, time",
    ]


def test_rows_of_before_there_were_configurations_are_told_apart(tmp_path: Path) -> None:
    old = rows.Row(case="tiny", variant="full", seed=0, part="test", metric="ndcg@10", value=0.1, date="2026-01-01")
    rows.append(tmp_path / "results" / "tiny.csv", [old])
    found = states(tmp_path, case_of())
    assert found["full", "quality"] == "before" and found["full", "time"] == "missing"


def test_without_time_nothing_is_started(tmp_path: Path) -> None:
    outcome = run(tmp_path, case_of(), hours=0.0)
    assert outcome.measured == [] and len(outcome.not_started) == 8
    assert not (tmp_path / "work").exists()


def test_a_fault_in_one_model_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(trained: object, name: str) -> list[rows.Row]:
        if name == "routed":
            raise RuntimeError("no memory")
        return [rows.Row(case="tiny", variant=name, metric="ndcg@10", value=0.1)]

    monkeypatch.setattr(driver, "quality_rows", fault)
    monkeypatch.setattr(driver, "time_rows", lambda trained, names: [])
    outcome = run(tmp_path, case_of())
    assert outcome.failed == {"tiny: routed, seed 0": "no memory"}
    assert "tiny: chosen, seed 0" in outcome.measured
    assert outcome.not_started == ["tiny: small, seed 0", "tiny: routed, seed 0, time", "tiny: small, seed 0, time"]


def test_a_variant_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^expected a variant of the case in --only, got 'ful'; did you mean 'full'\?"
    ):
        run(tmp_path, case_of(), ("ful",))


def test_the_commands_say_what_there_is(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = '[variants.new]\nlike = "full"\n'
    (tmp_path / "tiny.toml").write_text(TINY + new)
    places = ["--cases", str(tmp_path), "--results", str(measured / "results")]
    assert main([*places, "list"]) == 0
    assert capsys.readouterr().out.split() == ["tiny", "a", "tiny", "case"]
    assert main([*places, "status", "tiny"]) == 0
    told = {line.split()[1]: " ".join(line.split()[2:]) for line in capsys.readouterr().out.splitlines()}
    assert told["full"] == told["routed"] == "2 measured" and told["new"] == "2 missing"
    assert told["8"] == "measured, 2 missing"  # all:
    assert main([*places, "run", "tiny", "--only", "full", "--work", str(measured / "work")]) == 0
    assert capsys.readouterr().out == "measured 0, there before 2\n"
    assert main([*places, "run", "tinny"]) == 2
    assert capsys.readouterr().err == "error: expected a case, got 'tinny'; did you mean 'tiny'? known: tiny\n"


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_rows(tmp_path: Path) -> None:
    text = TINY[: TINY.index("[variants.chosen]")].replace("train.epochs = 2", "train.epochs = 12")
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "tiny.toml").write_text(text.replace("shop.users = 80", "shop.users = 300"))

    def command(folder: Path) -> list[str]:
        places = ["--cases", tmp_path / "cases", "--results", folder / "results"]
        return [sys.executable, "-m", "benchmarks", *map(str, [*places, "run", "tiny", "--work", folder / "work"])]

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    logs = lambda: list((killed / "work").glob("tiny/0/*/log.csv"))  # noqa: E731
    with subprocess.Popen(command(killed), cwd=ROOT, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not logs():
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert logs() and not (killed / "results" / "tiny.csv").exists()
    told = subprocess.run(command(killed), cwd=ROOT, check=True, capture_output=True, text=True).stderr
    assert "going on at epoch" in told
    subprocess.run(command(whole), cwd=ROOT, check=True, capture_output=True)
    keys = ["variant", "seed", "part", "metric"]
    first, second = (rows.read(folder / "results" / "tiny.csv") for folder in (killed, whole))
    assert first.select(keys).equals(second.select(keys))
    quality = pl.col("part") != ""
    assert first.filter(quality)["value"].equals(second.filter(quality)["value"])


STUDENTS = """
about = "a teacher and its students"
log = "shop"
shop.users = 80
settings.train.epochs = 1
measure = { forms = ["export"], batches = [1], seconds = 0.0, metrics = ["ndcg@10"] }
[full]
settings.backbone = { name = "nextitnet", width = 16, layers = 2, max_length = 8, dilations = [1, 4] }
[variants.searched]
teacher = "full"
settings.backbone = { name = "cells", width = 4, layers = 2, nodes = 1, max_length = 8 }
settings.technique.adarec = { max_params = 6000, search_epochs = 1 }
[variants.alone]
like = "searched"
plain = true
teacher = ""
derive = "architecture"
of = "searched"
[variants.random]
like = "searched"
derive = "drawn"
of = "searched"
[variants.coded]
init = "full"
int8 = true
settings.backbone = { name = "nextitnet", width = 16, layers = 2, max_length = 8, dilations = [1, 4] }
settings.technique.cprec.codes = 8
"""


@pytest.mark.slow
def test_students_get_what_another_model_found_and_exports_are_measured(tmp_path: Path) -> None:
    outcome = run(tmp_path, case_of(STUDENTS))
    assert not outcome.failed
    frame = rows.read(tmp_path / "results" / "tiny.csv")
    found = {row["variant"]: row["note"] for row in frame.filter(metric="operations").iter_rows(named=True)}
    assert found["alone"] == found["searched"] != "" and set(found) == {"searched", "alone", "random"}
    assert frame.filter(variant="coded/int8", part="test", metric="ndcg@10")["value"][0] >= 0
    assert set(frame.filter(metric="p50, export, batch 1")["variant"]) == {
        "full",
        "searched",
        "alone",
        "random",
        "coded",
    }
    sizes = dict(frame.filter(metric="bytes, export").select("variant", "value").iter_rows())
    assert sizes["coded"] < sizes["full"]
