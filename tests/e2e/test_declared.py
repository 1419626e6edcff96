"""What a run, an export or a store declares and does not hold is refused in one line, also where all its checksums fit."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper

from e2e.command import leanrec
from e2e.conftest import TINY
from forging import edited, overwritten, reweighted, signed, weights_of
from leanrec.artifact.weights import SCALE
from leanrec.build import open_run
from leanrec.core.errors import ArtifactError
from leanrec.engine.export_runner import open_export
from leanrec.server.live import open_live
from leanrec.server.settings import Settings

HISTORY = ("--history", "item-3,item-7", "-k", 3)
ENCODER, STEP = "encoder-full.onnx", "step-full.onnx"
MILLION = 10**6


def recommended(path: Path) -> str:
    """The error of a request, which the server gives, too."""
    error = leanrec("recommend", path, *HISTORY).error
    with pytest.raises(ArtifactError) as refused:
        open_live(path, Settings())
    assert "\n" not in str(refused.value)
    return error


@pytest.fixture
def bad_run(run: Path, tmp_path: Path) -> Path:
    """A run to change."""
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture
def bad_export(exported: Path, tmp_path: Path) -> Path:
    """An export to change."""
    return shutil.copytree(exported, tmp_path / "export")


@pytest.fixture
def bad_store(store: Path, tmp_path: Path) -> Path:
    """A store to change."""
    return shutil.copytree(store, tmp_path / "store")


def deep(folder: Path) -> None:
    """A header of lists in lists."""
    path, header = weights_of(folder), b'{"w":' + b"[" * 100_000
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    signed(folder)


def huge(arrays: dict[str, np.ndarray]) -> None:
    """Weights whose product with their scales has 149 GiB."""
    arrays |= {"x": np.ones((200_000, 1), np.int8), f"x{SCALE}": np.ones((1, 200_000), np.float32)}


RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "width": (
        lambda run: edited(run, lambda tree: tree["config"]["backbone"].update(width=MILLION)),
        r"do not fit its configuration: expected \S+ as F32 \[.*1000000.*, got F32 \[.*8",
    ),
    "layers": (
        lambda run: edited(run, lambda tree: tree["config"]["backbone"].update(layers=MILLION)),
        "configuration in .* is not usable: .*backbone.layers",
    ),
    "as many layers as may be": (
        lambda run: edited(run, lambda tree: tree["config"]["backbone"].update(layers=1024)),
        "do not fit its configuration: expected ",
    ),
    "max_length": (
        lambda run: edited(run, lambda tree: tree["config"]["backbone"].update(max_length=-1)),
        "configuration in .* is not usable: .*max_length",
    ),
    "flops": (lambda run: edited(run, lambda tree: tree["cost"].update(flops=0)), "is damaged: .*>= 1 .*flops"),
    "more items than weights": (
        lambda run: edited(run, lambda tree: tree["data"].update(items=10**9)),
        "expected weights of 1000000000 items in .*model.safetensors, got ",
    ),
    "not a number": (
        lambda run: overwritten(run, "backbone.items.weight", float("nan")),
        "expected finite weights in model.safetensors .*, got others in backbone.items.weight",
    ),
    "scores that are infinite": (
        lambda run: reweighted(run, lambda arrays: [array.fill(1e38) for array in arrays.values()]),
        "expected finite scores, got others",
    ),
    "a deep header": (deep, "model.safetensors of run .* is not a whole safetensors file: the header is damaged"),
    "a shape": (
        lambda run: reweighted(run, lambda arrays: arrays.update({"backbone.items.weight": np.ones((21, 8), "f")})),
        r"expected backbone.items.weight as F32 \[41, 8\], got F32 \[21, 8\]",
    ),
}


@pytest.mark.parametrize("case", RUNS)
def test_runs(case: str, bad_run: Path) -> None:
    change, message = RUNS[case]
    change(bad_run)
    assert re.search(message, recommended(bad_run))


def in_part(name: str, change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], None]:
    """Change a graph of an export."""

    def changed(export: Path) -> None:
        model = onnx.load(export / name, load_external_data=False)
        change(model)
        (export / name).write_bytes(model.SerializeToString())
        signed(export)

    return changed


def endless(model: onnx.ModelProto) -> None:
    """A loop whose condition is always true."""
    flag = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "go_on")]
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    same = helper.make_node("Identity", ["on"], ["go_on"])
    body = helper.make_graph([same], "body", [turn, flag[0]], [flag[1]])
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    model.graph.initializer.append(always)
    model.graph.node.insert(0, helper.make_node("Loop", ["", "always"], [], body=body))


def elsewhere(model: onnx.ModelProto) -> None:
    """A weight in a file that export.json does not list."""
    entry = next(e for tensor in model.graph.initializer for e in tensor.external_data if e.key == "location")
    entry.value = "other.bin"


def shifted(model: onnx.ModelProto) -> None:
    """A weight that begins in the middle of another."""
    entry = next(e for tensor in model.graph.initializer for e in tensor.external_data if e.key == "offset")
    entry.value = str(int(entry.value) + 4)


def custom(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "evil"
    model.opset_import.append(helper.make_opsetid("evil", 1))


def no_bias(model: onnx.ModelProto) -> None:
    """An input that is there and has no name, at which ONNX Runtime ends the process."""
    next(node for node in model.graph.node if node.op_type == "LayerNormalization").input[2] = ""


def other_steps(model: onnx.ModelProto) -> None:
    """A step of another model whose shapes are the same."""
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Neg"


EXPORTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a matrix of fewer items": (
        lambda export: reweighted(
            export, lambda arrays: arrays.update({matrix_of(export): np.ones((21, 8), np.float32)})
        ),
        r"expected the weight '\S+' as F32 or I8 \[41, 8\] in weights.safetensors, got F32 \[21, 8\]; export again",
    ),
    "channels": (lambda export: edited(export, lambda tree: tree.update(channels=0)), "damaged: .*>= 1 .*channels"),
    "flops": (lambda export: edited(export, lambda tree: tree.update(flops_full=0)), "damaged: .*>= 1 .*flops_full"),
    "length": (lambda export: edited(export, lambda tree: tree.update(max_length=-1)), "damaged: .*>= 1 .*max_length"),
    "inputs": (
        lambda export: edited(export, lambda tree: tree["inputs"].update({ENCODER: ["items"]})),
        "expected encoder-full.onnx to read items, lengths, got items; export again",
    ),
    "no inputs": (
        lambda export: edited(export, lambda tree: tree["inputs"].clear()),
        "expected encoder-full.onnx to read items, lengths, got nothing; export again",
    ),
    "a format that is unknown": (
        lambda export: edited(export, lambda tree: tree.update(format="tflite")),
        "cannot open the export .*: expected a format, got 'tflite'; known: .*; install the package that adds this format",
    ),
    "memories": (
        lambda export: edited(export, lambda tree: tree["plan"][0].update(memories=[{"heads": 1}])),
        "expected outputs .* of remember-full.onnx, got ",
    ),
    "memories of other heads": (
        lambda export: edited(export, lambda tree: [memory.update(heads=7) for memory in tree["plan"][0]["memories"]]),
        "expected rows of memories that divide by their heads in remember-full.onnx, got 8 channels",
    ),
    "windows without end": (
        lambda export: edited(export, lambda tree: tree["plan"][0]["memories"][0].update(back=[2**31 - 1])),
        "expected at most 65536 rows of windows, got 2147483647",
    ),
    "not a number": (
        lambda export: overwritten(export, matrix_of(export), float("nan")),
        "expected finite weights in weights.safetensors, got others in ",
    ),
    "a deep header": (deep, "the header is damaged"),
    "scales": (lambda export: reweighted(export, huge), "expected an int8 weight 'x' with a float32 scale a row, got "),
    "a loop": (in_part(ENCODER, endless), f"{ENCODER} is not a part that runs: expected operators without graphs"),
    "an unlisted file": (
        in_part(ENCODER, elsewhere),
        f"expected {ENCODER} to read weights of weights.safetensors alone, got 'other.bin' from byte ",
    ),
    "a weight that is none": (
        in_part(ENCODER, shifted),
        f"expected {ENCODER} to read weights of weights.safetensors alone, got 'weights.safetensors' from byte ",
    ),
    "an input without a name": (
        in_part(ENCODER, no_bias),
        "expected a name for the last input of 'LayerNormalization', got none",
    ),
    "a custom operator": (in_part(ENCODER, custom), f"expected operators of exports in {ENCODER}, got 'evil:"),
}


def matrix_of(export: Path) -> str:
    """The weight that holds the items."""
    return str(json.loads((export / "export.json").read_bytes())["matrix"])


@pytest.mark.parametrize("case", EXPORTS)
def test_exports(case: str, bad_export: Path) -> None:
    change, message = EXPORTS[case]
    change(bad_export)
    assert re.search(message, recommended(bad_export))


def test_steps_of_another_model(bad_export: Path) -> None:
    """Shapes fit, so only a server that takes a step on its start finds it."""
    in_part(STEP, other_steps)(bad_export)
    with pytest.raises(
        ArtifactError, match=r"fails its self-check: expected the same scores from memories .*, got oth"
    ):
        open_live(bad_export, Settings())


def coded(export: Path) -> None:
    """Codes in place of the matrix, and a second route with what chooses between both; as a pt2 export, whose parts stay closed."""
    codes = {"k": np.zeros((40, 4), np.uint8), "c": np.ones((4 * 256, 2), np.float32)}
    routing = {"costs": np.ones((13, 2), "f"), "budgets": np.ones(3, "f"), "prices": np.ones(3, "f")}
    reweighted(export, lambda arrays: arrays.update(codes, **{f"routing.{n}": a for n, a in routing.items()}))

    def change(tree: dict[str, Any]) -> None:
        tree |= {"format": "pt2", "matrix": "", "codes": [{"codes": "k", "centroids": "c"}], "router": ENCODER}
        tree["plan"].append(tree["plan"][0] | {"route": "w4"})
        tree |= json.loads(json.dumps(tree).replace(".onnx", ".pt2"))

    for part in export.glob("*.onnx"):
        part.rename(part.with_suffix(".pt2"))
    edited(export, change)


CODES: dict[str, tuple[str, np.ndarray, str]] = {
    "fewer codes": ("k", np.zeros((20, 4), np.uint8), "expected codes of 40 items, got 20"),
    "parts that do not divide": ("k", np.zeros((40, 3), np.uint8), r"expected codes uint8 \[K, m\] whose m divides 8"),
    "no parts": ("k", np.zeros((40, 0), np.uint8), r"expected codes uint8 \[K, m\] whose m divides 8"),
    "codes of two bytes": ("k", np.zeros((40, 4), np.int16), r"expected codes uint8 \[K, m\]"),
    "fewer centroids": (
        "c",
        np.ones((256, 2), "f"),
        r"expected the weight 'c' as F32 or I8 \[1024, 2\] .*got F32 \[256",
    ),
    "wider centroids": ("c", np.ones((1024, 4), "f"), r"expected the weight 'c' .*got F32 \[1024, 4\]"),
    "costs of one route": (
        "routing.costs",
        np.ones((13, 1), "f"),
        r"'routing.costs' as F32 \[13, 2\] .*got F32 \[13, 1",
    ),
    "costs of few lengths": (
        "routing.costs",
        np.ones((2, 2), "f"),
        r"'routing.costs' as F32 \[13, 2\] .*got F32 \[2, 2",
    ),
    "prices of one budget": ("routing.prices", np.ones(1, "f"), "expected the prices of two budgets at least"),
    "budgets": ("routing.budgets", np.ones(2, "f"), r"'routing.budgets' as F32 or F64 \[3\] .*got F32 \[2\]"),
}


def test_codes_and_costs_that_fit(bad_export: Path) -> None:
    coded(bad_export)
    engine, _ = open_export(bad_export, warm=False, trust=True)
    assert engine.runner.num_items == 40 and len(engine.flops) == 2


@pytest.mark.parametrize("case", CODES)
def test_codes_and_costs(case: str, bad_export: Path) -> None:
    name, array, message = CODES[case]
    coded(bad_export)
    reweighted(bad_export, lambda arrays: arrays.update({name: array}))
    with pytest.raises(ArtifactError, match=message) as refused:
        open_export(bad_export, warm=False, trust=True)
    assert "\n" not in str(refused.value)


def packed(path: Path, column: str, text: int) -> None:
    """Let a table hold one long text in all its rows: few bytes on disk."""
    frame = pl.read_parquet(path).with_columns(pl.lit("x" * text).alias(column))
    frame.write_parquet(path, compression="zstd", statistics=False)
    assert path.stat().st_size < 10_000


@pytest.mark.parametrize(
    ("text", "of_run", "of_store"),
    [
        pytest.param(
            2**22,
            "catalog.parquet .*: expected at most 1212416 bytes unpacked of 40 rows",
            "expected a Parquet file of 40 rows .*: expected at most 1212416 bytes unpacked of 40 rows",
            id="pages",
        ),
        pytest.param(  # a page holds it once, a list of titles once a row
            2**20,
            "expected at most 1212416 bytes of text in 40 rows, got 4194",
            "expected at most 1212416 bytes of text in 40 rows, got 4194.* in .*catalog.parquet",
            id="rows",
        ),
    ],
)
def test_a_catalogue_that_gets_huge(text: int, of_run: str, of_store: str, bad_run: Path, bad_store: Path) -> None:
    for folder in (bad_run, bad_store):
        packed(folder / "catalog.parquet", "title", text)
    signed(bad_run)
    assert re.search(of_run, recommended(bad_run))
    error = leanrec("train", bad_store, "--backbone", "sasrec", *TINY, "--out", bad_store.parent / "none").error
    assert re.search(of_store, error)


@pytest.mark.parametrize("number", [0, -1, 41, 2**31 - 1])
def test_ids_out_of_range(number: int, bad_store: Path, tmp_path: Path) -> None:
    items = np.load(bad_store / "items.npy")
    items[5] = number
    np.save(bad_store / "items.npy", items)
    error = leanrec("train", bad_store, "--backbone", "sasrec", *TINY, "--out", tmp_path / "none").error
    assert re.search(r"expected item ids 1\.\.40, got -?\d+\.\.\d+ in .*items.npy; the store was cut or edited", error)


def test_what_is_whole_is_opened(run: Path, exported: Path) -> None:
    """The checks refuse nothing of ours."""
    assert open_run(run).engine().num_items == open_export(exported)[0].num_items == 40
    assert open_live(run, Settings()).routes() == open_live(exported, Settings()).routes()
