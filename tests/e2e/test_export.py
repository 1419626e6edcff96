"""Export by the command line, and answer from the export without torch and polars."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from e2e.command import leanrec, refused, trained
from leanrec.artifact.exported import read_export
from leanrec.build import open_run
from leanrec.core.errors import ConfigError
from leanrec.core.folder import sealed
from leanrec.engine.engine import Engine
from leanrec.engine.export_runner import ExportRunner, open_export
from leanrec.engine.sessions import Sessions
from leanrec.formats.onnx import Onnx

HISTORY = "two words,item-3,item-7"
BARE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
import json
import re
import msgspec
from leanrec.engine.export_runner import open_export

engine, _ = open_export(sys.argv[1], trust=True)
answer = engine.recommend([sys.argv[2].split(",")], 5, exclude_seen=True, deny=["item-9"])
assert not {blocked} & {{name.split(".")[0] for name in sys.modules}}
print(msgspec.json.encode(answer[0]).decode())
"""


@pytest.fixture(scope="module")
def exports(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("exports")
    for form in ("onnx", "pt2"):
        made = leanrec("export", run, "--format", form, "--out", out / form, "--json").json
        assert made["format"] == form and made["parity"] <= made["limit"] == 1e-4
        assert made["versions"]["torch"] and (form == "pt2" or made["versions"]["opset"] == 20)
        assert [route["route"] for route in made["routes"]] == ["full"]
        assert made["bytes"] == sum(made["parts"].values())
        assert {"weights.safetensors", "catalog.json", f"encoder-full.{form}"} == set(made["parts"])
    return {form: out / form for form in ("onnx", "pt2")}


@pytest.mark.parametrize("seen", [(), ("--exclude-seen",)], ids=["", "exclude-seen"])
def test_an_export_is_as_good_as_its_run(
    seen: tuple[str, ...], run: Path, exports: dict[str, Path], tmp_path: Path
) -> None:
    rows = {}
    for name, options in {"run": (), "export": ("--export", exports["onnx"])}.items():
        found = leanrec("evaluate", run, "--json", *seen, "--per-user", tmp_path / f"{name}.parquet", *options).json
        rows[name] = pl.read_parquet(tmp_path / f"{name}.parquet").with_columns(pl.col("rank").clip(upper_bound=21))
        assert found["metrics"]["hr@20"] > 0 and ("export" in found) is bool(options)
    assert rows["run"].equals(rows["export"])
    assert found["export"]["out"] == str(exports["onnx"]) and found["export"]["weights"] == "float32"
    assert "onnx (float32, " in leanrec("evaluate", run, "--export", exports["onnx"]).out


def test_only_an_export_of_the_run_is_judged_beside_it(
    run: Path, exports: dict[str, Path], store: Path, tmp_path: Path
) -> None:
    both = refused(tmp_path, "evaluate", run, "--export", exports["onnx"], "--controls")
    assert "expected --export or --controls, got both; controls are compared with the run" in both
    other = trained(store, tmp_path / "other", "--backbone", "sasrec", "train.epochs=1", "backbone.width=8")
    foreign = refused(tmp_path, "evaluate", other, "--export", exports["onnx"])
    assert f"expected an export of {other}, got one of another run in {exports['onnx']}; export the run" in foreign


@pytest.fixture
def broken(exports: dict[str, Path], tmp_path: Path) -> Path:
    """An export to break."""
    return shutil.copytree(exports["onnx"], tmp_path / "broken")


@pytest.mark.parametrize("form", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
def test_an_export_whose_files_are_cut_while_it_is_open_answers(
    form: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    export = shutil.copytree(exports[form], tmp_path / "cut")
    program = (
        "import os, sys; from pathlib import Path; from leanrec.engine.export_runner import open_export\n"
        "engine, ask = open_export(Path(sys.argv[1]), trust=True)[0], [[sys.argv[2]]]\n"
        "before = engine.recommend(ask, k=3)[0]\n"
        "for file in Path(sys.argv[1]).iterdir(): os.truncate(file, 0)\n"
        "assert engine.recommend(ask, k=3)[0] == before"
    )
    done = subprocess.run([sys.executable, "-c", program, export, "it's"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_an_export_answers_as_its_run(
    form: str, run: Path, exports: dict[str, Path], store: Path, tmp_path: Path
) -> None:
    options = ("--history", HISTORY, "-k", 7, "--exclude-seen", "--json")
    whole = leanrec("recommend", run, *options).json
    found = leanrec("recommend", exports[form], *options, "--trust").json
    assert [item["item"] for item in found["items"]] == [item["item"] for item in whole["items"]]
    assert [item["score"] for item in found["items"]] == pytest.approx([i["score"] for i in whole["items"]], abs=1e-4)
    assert (found["route"], found["flops_ratio"]) == (whole["route"], whole["flops_ratio"])
    for name, path in (("run", run), ("export", exports[form])):
        table = tmp_path / f"{name}.parquet"
        leanrec("recommend", path, "--data", store, "--out", table, "-k", 5, "--trust", "--json")
    first, second = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("run", "export"))
    assert first["item"].equals(second["item"]) and first["user"].equals(second["user"])


@pytest.mark.parametrize("users", [1, 3])
def test_how_many_users_are_read_at_once_changes_no_answer(users: int, exports: dict[str, Path]) -> None:
    histories = [np.arange(1, 2 + user % 5) for user in range(20)]
    whole, exported = open_export(exports["onnx"], threads=1)
    ids, scores, _ = whole.recommend_ids(histories, 4)
    few = ExportRunner(exports["onnx"], exported, Onnx(), at_once=users * 5 * exported.channels)
    found, close, _ = Engine(few, whole.catalog, whole.flops, whole.flops_full, threads=1).recommend_ids(histories, 4)
    assert (found == ids).all()
    np.testing.assert_allclose(close, scores, rtol=1e-5, atol=1e-5)


def test_a_run_and_its_export_are_measured_side_by_side(run: Path, exports: dict[str, Path], store: Path) -> None:
    found = leanrec("bench", run, exports["onnx"], "--batch", "1", "--seconds", 0.2, "--data", store, "--json").json
    assert [row["run"] for row in found["rows"]] == [str(run), str(exports["onnx"])]


@pytest.mark.parametrize(
    ("form", "blocked"),
    [("onnx", {"torch", "polars"}), pytest.param("pt2", {"polars", "typer"}, marks=pytest.mark.slow)],
)
def test_serving_needs_one_runtime_only(form: str, blocked: set[str], run: Path, exports: dict[str, Path]) -> None:
    code = BARE.format(blocked=blocked)
    command = [sys.executable, "-c", code, str(exports[form]), HISTORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    whole = leanrec("recommend", run, "--history", HISTORY, "-k", 6, "--exclude-seen", "--json").json
    expected = [item["item"] for item in whole["items"] if item["item"] != "item-9"][:5]
    assert [item["item"] for item in found["items"]] == expected


def test_the_table_shows_parts(run: Path, tmp_path: Path) -> None:
    shown = leanrec("export", run, "--format", "pt2", "--out", tmp_path / "made")
    assert shown.code == 0 and "encoder-full.pt2" in shown.out and "leanrec recommend" in shown.out


def test_refusals_leave_nothing(run: Path, tmp_path: Path) -> None:
    assert "expected a format, got 'tflite'; known: onnx, pt2" in refused(
        tmp_path, "export", run, "--format", "tflite", "--out", tmp_path / "out"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    assert "expected a new or empty directory to export to" in refused(
        tmp_path, "export", run, "--format", "pt2", "--out", tmp_path / "full"
    )


def test_a_part_too_far_from_its_run_is_not_written(run: Path, tmp_path: Path) -> None:
    ended = leanrec("export", run, "--out", tmp_path / "out", "--limit", "1e-12", "--json")
    assert ended.code == 2 and "expected encoder-full.onnx within 1e-12 of the model, got" in ended.err
    assert list(tmp_path.iterdir()) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "harm", "text"),
    [
        ("weights.safetensors", cut, "weights.safetensors of export .* is truncated: expected"),
        ("weights.safetensors", flip, "weights.safetensors of export .* was edited: expected sha256"),
        ("encoder-full.onnx", flip, "encoder-full.onnx of export .* was edited"),
        (
            "encoder-full.onnx",
            Path.unlink,
            "expected the file encoder-full.onnx in the export .*, got none; export again",
        ),
        ("catalog.json", flip, "catalog.json of export .* was edited"),
        ("export.json", cut, "export.json of export .* is damaged"),
        ("export.json", Path.unlink, "expected a run with manifest.json, got none"),
    ],
)
def test_a_damaged_export_is_refused(name: str, harm: Callable[[Path], None], text: str, broken: Path) -> None:
    harm(broken / name)
    assert re.search(text, leanrec("recommend", broken, "--history", HISTORY).error)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"schema": 3', '"schema": 9', "has schema version 9, this leanrec reads 3; export again or upgrade"),
        ('"max_length": 12', '"max_length": 13', "export.json of export .* was edited"),
        ('"flops_full"', '"fl0ps_full"', "export.json of export .* is damaged: .*fl0ps_full"),
    ],
)
def test_an_edited_manifest_is_refused(old: str, new: str, text: str, broken: Path) -> None:
    path = broken / "export.json"
    raw = path.read_text()
    assert old in raw
    path.write_text(raw.replace(old, new, 1))
    assert re.search(text, leanrec("recommend", broken, "--history", HISTORY).error)


def test_a_weight_that_is_missing_is_named(broken: Path) -> None:
    exported, _ = read_export(broken)
    _, raw = sealed(msgspec.structs.replace(exported, matrix="elsewhere"))
    (broken / "export.json").write_bytes(raw)
    error = leanrec("recommend", broken, "--history", HISTORY).error
    assert "expected the weight 'elsewhere' as F32 or I8 [41, 8] in" in error and error.endswith(
        "got none; export again"
    )


@pytest.mark.slow
def test_a_routed_run_takes_the_same_routes_from_its_export(routed: Path, shop: Path, tmp_path: Path) -> None:
    made = leanrec("export", routed, "--out", tmp_path / "out", "--json").json
    routes = [route["route"] for route in made["routes"]]
    assert len(routes) > 1 and "router.onnx" in made["parts"]
    assert made["parts"]["weights.safetensors"] < 2 * (routed / "model.safetensors").stat().st_size  # each weight once
    engine, _ = open_export(tmp_path / "out", threads=1)
    run = open_run(routed)
    store = run.store(shop)
    histories = [store.history(user) for user in range(0, store.num_users, 3)]
    for budget in (None, 0.5, 1.0):
        ids, scores, taken = run.engine().recommend_ids(histories, 5, budget=budget)
        found, found_scores, found_taken = engine.recommend_ids(histories, 5, budget=budget)
        assert found_taken == taken
        assert (found == ids).mean() > 0.99
        np.testing.assert_allclose(found_scores, scores, atol=1e-4)
    with pytest.raises(ConfigError, match="expected a budget of at least"):
        engine.recommend_ids(histories, 5, budget=1e-6)


def test_sessions_from_an_export(exported: Path) -> None:
    engine, manifest = open_export(exported, threads=1)
    assert {"step-full.onnx", "remember-full.onnx"} <= set(manifest.files)
    sessions, history = Sessions(engine), []
    for number in (3, 7, 3, 9, 12, 30):
        history.append(f"item-{number}")
        found = sessions.event("user", history[-1:], 5)
        (expected,) = engine.recommend([history], 5)
        assert [item.item for item in found.items] == [item.item for item in expected.items]
        assert [i.score for i in found.items] == pytest.approx([i.score for i in expected.items], abs=1e-4)
    assert (sessions.recomputed, sessions.steps) == (1, 5)


def test_sessions_from_an_export_without_steps_compute_everything_anew(exports: dict[str, Path]) -> None:
    engine, _ = open_export(exports["onnx"], threads=1)
    sessions = Sessions(engine)
    for number in (3, 7):
        sessions.event("user", [f"item-{number}"], 5)
    assert (sessions.recomputed, sessions.steps) == (2, 0)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_int8_weights_are_smaller_and_say_what_they_lose(
    form: str, run: Path, exports: dict[str, Path], tmp_path: Path
) -> None:
    made = leanrec("export", run, "--format", form, "--weights", "int8", "--out", tmp_path / "out", "--json").json
    whole = (exports[form] / "weights.safetensors").stat().st_size
    assert made["weights"] == "int8" and made["parts"]["weights.safetensors"] < 0.8 * whole
    assert 0 < made["parity"] < 0.2 and made["loss"]["users"] > 0
    assert made["loss"]["overlap"] > 0.7 and abs(made["loss"]["ndcg"] - made["loss"]["ndcg_int8"]) < 0.1
    answer = leanrec("recommend", tmp_path / "out", "--history", HISTORY, "-k", 10, "--trust", "--json").json
    exact = leanrec("recommend", run, "--history", HISTORY, "-k", 10, "--json").json
    assert len({i["item"] for i in answer["items"]} & {i["item"] for i in exact["items"]}) >= 7
    assert "expected --weights float32 or int8, got 'int4'" in refused(
        tmp_path, "export", run, "--weights", "int4", "--out", tmp_path / "other"
    )
