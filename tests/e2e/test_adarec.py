"""A student that is searched and distilled, by the command line: teacher, search, drawing, and as a base of other techniques."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from e2e.command import leanrec, listing, refused, trained
from leanrec.artifact.manifest import read_manifest

EXACT = ("train.loss_precision=float32", "train.encoder_precision=float32", "train.epochs=1")
TEACHER = ("--backbone", "nextitnet", "backbone.width=16", "backbone.layers=3", "backbone.max_length=6", *EXACT)
STUDENT = (
    *("--recipe", "adarec", "backbone.width=8", "backbone.layers=2", "backbone.max_length=6", *EXACT),
    *("technique.adarec.search_epochs=1", "technique.adarec.warmup=0"),
)


@pytest.fixture(scope="module")
def teacher(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(shop, tmp_path_factory.mktemp("adarec") / "teacher", *TEACHER)


@pytest.fixture(scope="module")
def found(shop: Path, teacher: Path) -> Path:
    """Nothing is written into it."""
    return trained(shop, teacher.parent / "student", *STUDENT, "--teacher", teacher, "technique.adarec.max_params=6000")


def test_the_budget_is_met_and_the_student_is_an_ordinary_run(found: Path, teacher: Path) -> None:
    cost = leanrec("cost", found, "--json").json
    assert cost["params"] <= 6000 and [route["route"] for route in cost["routes"]] == ["full"]
    valid = leanrec("evaluate", found, "--split", "valid", "--json").json
    assert valid["metrics"] == read_manifest(found).train.valid
    assert leanrec("recommend", found, "--history", "none", "-k", 3).code == 2
    rows = leanrec("bench", teacher, found, "--batch", "1", "--seconds", 0.1, "-k", 3, "--json").json["rows"]
    assert [row["run"] for row in rows] == [str(teacher), str(found)]


def test_the_cell_is_drawn(found: Path, tmp_path: Path) -> None:
    described = leanrec("describe", found, "--json").json
    architecture = described["backbone"]["architecture"]
    assert len(architecture) == 6 and described["techniques"] == []
    (diagram,) = described["diagrams"]
    assert diagram["title"] == "cell, 2 in series"
    drawn = [layer for _, _, layer in diagram["wires"] if layer != "sum"]
    assert drawn == [name for name in architecture if name != "none"]
    shown = leanrec("describe", found, "--svg", tmp_path / "cell.svg").out
    assert "cell, 2 in series" in shown and "  output = sum(input)" in shown
    for source, target, layer in diagram["wires"]:
        (line,) = [line for line in shown.splitlines() if line.split(" = ")[0].strip() == target]
        assert f"{layer}({source})" in line
    root = ElementTree.parse(tmp_path / "cell.svg").getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(drawn) | {"input", "output", "cell, 2 in series"} <= set(texts)


def test_other_runs_are_described_by_their_blocks(teacher: Path) -> None:
    (diagram,) = leanrec("describe", teacher, "--json").json["diagrams"]
    assert diagram == {
        "title": "3 blocks",
        "wires": [
            ["input", "state 1", "ConvBlock"],
            ["state 1", "state 2", "ConvBlock"],
            ["state 2", "state 3", "ConvBlock"],
        ],
    }
    assert "ConvBlock(state 2)" in leanrec("describe", teacher).out


def test_an_unwritable_drawing_is_refused(found: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    error = refused(tmp_path, "describe", found, "--svg", tmp_path / "file" / "cell.svg")
    assert (
        error
        == f"cannot write {tmp_path / 'file' / 'cell.svg'}: Not a directory; free some space or choose another place"
    )


@pytest.mark.parametrize(
    "settings", [("cprec", "technique.cprec.shrink=2"), ("skiprec", "technique.skiprec.patterns=2")]
)
def test_the_student_is_a_base(settings: tuple[str, str], shop: Path, found: Path, tmp_path: Path) -> None:
    technique, *more = settings
    run = trained(shop, tmp_path / "lean", "--init", found, "--technique", technique, *more, "train.epochs=1")
    config = read_manifest(run).config
    assert list(config["technique"]) == [technique]
    assert config["backbone"] == read_manifest(found).config["backbone"]
    assert leanrec("evaluate", run, "--json").code == 0


def test_what_is_found_may_be_tuned_from_the_weights_of_the_search(shop: Path, teacher: Path, tmp_path: Path) -> None:
    run = trained(shop, tmp_path / "run", *STUDENT, "--teacher", teacher, "technique.adarec.weights=searched")
    assert leanrec("evaluate", run, "--split", "valid", "--json").json["metrics"] == read_manifest(run).train.valid


def test_its_architecture_alone_is_a_plain_model(shop: Path, found: Path, tmp_path: Path) -> None:
    architecture = leanrec("describe", found, "--json").json["backbone"]["architecture"]
    shape = ("--backbone", "cells", "backbone.width=8", "backbone.layers=2", "backbone.max_length=6")
    run = trained(shop, tmp_path / "alone", *shape, f"backbone.architecture={architecture}", *EXACT)
    assert read_manifest(run).cost == read_manifest(found).cost


def test_no_teacher(shop: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "train", shop, *STUDENT, "--out", tmp_path / "run")
    assert error == (
        "expected train.teacher, a finished run to learn from, got none; name it with --teacher RUN, or set "
        "technique.adarec.distil=0 to do without"
    )


def test_a_teacher_for_no_one(shop: Path, teacher: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "train", shop, *TEACHER, "--teacher", teacher, "--out", tmp_path / "run")
    assert (
        error
        == "expected no train.teacher, since no technique of this run learns from one; drop it, or add one that distils"
    )


def test_a_backbone_without_cells(shop: Path, teacher: Path, tmp_path: Path) -> None:
    settings = (*TEACHER, "--technique", "adarec", "--teacher", teacher)
    error = refused(tmp_path, "train", shop, *settings, "--out", tmp_path / "run")
    assert error.startswith(
        "technique 'adarec' needs cells, which NextItNet does not support (it supports depth, share, width)"
    )


@pytest.mark.slow
def test_a_budget_that_nothing_meets(shop: Path, teacher: Path, tmp_path: Path) -> None:
    settings = (*STUDENT, "--teacher", teacher, "technique.adarec.max_flops=10")
    error = refused(tmp_path, "train", shop, *settings, "--out", tmp_path / "run")
    assert error.startswith("expected technique.adarec.max_flops of at least ") and "got 10; " in error
    works = error.split("got 10; ")[1].split(" would work")[0]
    assert leanrec("train", shop, *settings, f"technique.adarec.max_flops={works}", "--out", tmp_path / "run").code == 0


def test_search_and_another_technique_at_once_are_refused(shop: Path, teacher: Path, tmp_path: Path) -> None:
    before = listing(tmp_path)
    settings = (*STUDENT, "--teacher", teacher, "--technique", "cprec")
    error = refused(tmp_path, "train", shop, *settings, "--out", tmp_path / "run")
    assert error == (
        "expected techniques that fill different slots, got 'adarec' and 'cprec', which both fill items, so that one would be "
        "lost; train with 'adarec' alone, then with 'cprec' from that run (--init)"
    )
    assert listing(tmp_path) == before
