"""No file that is opened runs code: a pickle in every place where one could stand is refused in one line, and never loaded."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from e2e.command import leanrec
from e2e.conftest import TINY
from forging import signed
from leanrec.artifact import exported as exports
from leanrec.artifact import manifest as manifests
from leanrec.core.errors import ArtifactError
from leanrec.server.live import open_live
from leanrec.server.settings import Settings

HISTORY = ("--history", "item-3,item-7", "-k", 3)


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Is there where a pickle was loaded."""
    return tmp_path / "it ran"


def raw(path: Path, bomb: Bomb) -> None:
    path.write_bytes(pickle.dumps(bomb, 2))


def framed(path: Path, bomb: Bomb) -> None:
    path.write_bytes(pickle.dumps(bomb, 5))


def zipped(path: Path, bomb: Bomb) -> None:
    torch.save({"w": bomb}, path)


def objects(path: Path, bomb: Bomb) -> None:
    array = np.empty(3, object)
    array[:] = [bomb] * 3
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=True)


FORMS = (raw, framed, zipped, objects)


def refused(mark: Path, *arguments: object) -> str:
    error = leanrec(*arguments).error
    assert not mark.exists(), "code ran"
    return error


@pytest.fixture(scope="module")
def pickled_once(tmp_path_factory: pytest.TempPathFactory, run: Path, exported: Path) -> dict[str, Path]:
    """An export in each format."""
    out = tmp_path_factory.mktemp("formats") / "pt2"
    assert leanrec("export", run, "--format", "pt2", "--out", out).code == 0
    return {"onnx": exported, "pt2": out}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [manifests.MODEL, manifests.CATALOG_FILE, manifests.MANIFEST])
def test_in_a_run(name: str, form: Callable[[Path, Bomb], None], run: Path, mark: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    form(copy / name, Bomb(mark))
    if name != manifests.MANIFEST:
        signed(copy)
    for command in (
        ("recommend", copy, *HISTORY),
        ("train", tmp_path / "none", "--init", copy, "--out", tmp_path / "o"),
    ):
        refused(mark, *command)
    with pytest.raises(ArtifactError):
        open_live(copy, Settings())
    assert not mark.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["checkpoint.safetensors", "config.toml"])
def test_in_a_run_that_is_gone_on_with(
    name: str, form: Callable[[Path, Bomb], None], run: Path, store: Path, mark: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(run / "config.toml", out)
    form(out / name, Bomb(mark))
    refused(mark, "train", store, "--out", out, "--resume")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["items.npy", "offsets.npy", "times.npy", "users.parquet", "catalog.parquet", "store.json"]
)
def test_in_a_store(
    name: str, form: Callable[[Path, Bomb], None], run: Path, store: Path, mark: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(store, tmp_path / "store")
    form(copy / name, Bomb(mark))
    refused(mark, "recommend", run, "--data", copy, "--out", tmp_path / "top.parquet")
    refused(mark, "train", copy, "--backbone", "sasrec", *TINY, "--out", tmp_path / "run")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [exports.WEIGHTS, exports.EXPORT_CATALOG, exports.EXPORT_FILE, "encoder-full.onnx"])
def test_in_an_export(
    name: str, form: Callable[[Path, Bomb], None], pickled_once: dict[str, Path], mark: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(pickled_once["onnx"], tmp_path / "export")
    form(copy / name, Bomb(mark))
    if name != exports.EXPORT_FILE:
        signed(copy)
    for more in ((), ("--trust",)):
        refused(mark, "recommend", copy, *HISTORY, *more)


@pytest.mark.parametrize("form", FORMS)
def test_in_what_is_read_beside(
    form: Callable[[Path, Bomb], None], store: Path, log: Path, mark: Path, tmp_path: Path
) -> None:
    bad, out = tmp_path / "bad.csv", tmp_path / "out"
    form(bad, Bomb(mark))
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(bad.read_bytes()))
    for source in (bad, tmp_path / "bad.csv.gz", shutil.copy(bad, tmp_path / "bad.parquet")):
        refused(mark, "data", "import", source, "--out", out)
    refused(mark, "data", "import", log, "--titles", bad, "--out", out, "--json")
    refused(mark, "train", store, "--recipe", bad, "--out", out)
    search = tmp_path / "search"
    search.mkdir()
    for name, command in (("slim.json", ("report", search)), ("search.json", ("slim", store, "--backbone", "sasrec"))):
        form(search / name, Bomb(mark))
        refused(mark, *command, "--out", search if command[0] == "slim" else tmp_path / "report.html")


def test_a_table_of_pickled_objects(log: Path, mark: Path, tmp_path: Path) -> None:
    """Parquet with a column of bytes that are pickles: bytes stay bytes."""
    bytes_ = pickle.dumps(Bomb(mark))
    pl.DataFrame({"user": [bytes_] * 4, "item": [bytes_] * 4}).write_parquet(tmp_path / "log.parquet")
    refused(mark, "data", "import", tmp_path / "log.parquet", "--out", tmp_path / "out")


def rewritten(path: Path, change: dict[str, bytes]) -> None:
    """An archive with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    top = next(iter(members)).partition("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {f"{top}/{name}": content for name, content in change.items()}).items():
            archive.writestr(name, content)


WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


def members(place: str, path: Path, bomb: Path) -> dict[str, bytes]:
    """Members of a torch program with a pickle at a place where torch loads one."""
    zipped(path.with_suffix(".bomb"), Bomb(bomb))
    content = path.with_suffix(".bomb").read_bytes()
    path.with_suffix(".bomb").unlink()
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        configs = {name: json.loads(archive.read(names[name])) for name in (WEIGHTS, CONSTANTS)}
    if place == "example inputs":
        return {"data/sample_inputs/model.pt": content}
    if place == "weights of old":
        return {"data/weights/model.pt": content}
    if place == "constants of old":
        return {"data/constants/model.pt": content}
    if place == "a weight":
        first = next(iter(configs[WEIGHTS]["config"].values()))
        first |= {"use_pickle": True}
        return {WEIGHTS: json.dumps(configs[WEIGHTS]).encode(), f"data/weights/{first['path_name']}": content}
    prefix = {"an object": "opaque_obj_", "a script": "custom_obj_"}[place]
    like = next(iter(configs[WEIGHTS]["config"].values()))
    configs[CONSTANTS]["config"]["evil"] = like | {"path_name": f"{prefix}0", "use_pickle": True}
    plain = pickle.dumps(Bomb(bomb))
    return {CONSTANTS: json.dumps(configs[CONSTANTS]).encode(), f"data/constants/{prefix}0": plain}


PLACES = ("example inputs", "weights of old", "constants of old", "a weight", "an object", "a script")


@pytest.mark.parametrize("place", PLACES)
def test_in_a_torch_program(
    place: str, pickled_once: dict[str, Path], run: Path, store: Path, mark: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(pickled_once["pt2"], tmp_path / "export")
    part = copy / "encoder-full.pt2"
    rewritten(part, members(place, part, mark))
    signed(copy)
    assert "add --trust" in refused(mark, "recommend", copy, *HISTORY)
    error = refused(mark, "recommend", copy, *HISTORY, "--trust")
    assert error.startswith(f"expected no pickle in {part}, got '") and error.endswith("export the run again")


def test_a_torch_program_is_opened_only_when_asked(
    pickled_once: dict[str, Path], run: Path, store: Path, mark: Path
) -> None:
    path = pickled_once["pt2"]
    for command in (
        ("recommend", path, *HISTORY),
        ("bench", run, path),
        ("evaluate", run, "--export", path),
        ("serve", path),
    ):
        assert refused(mark, *command) == (
            f"expected an export that cannot run code, got the pt2 export {path}, and opening one can run any code that is in it; "
            "if you know who made it add --trust (from Python trust=True), or export the run as onnx"
        )
    assert leanrec("recommend", path, *HISTORY, "--trust").code == 0
    with pytest.raises(ArtifactError, match="add --trust"):  # as a server that is told to reload
        open_live(path, Settings())
    assert open_live(path, Settings(trust=True)).digest


def test_our_torch_programs_hold_no_pickle(pickled_once: dict[str, Path]) -> None:
    for path in pickled_once["pt2"].glob("*.pt2"):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                assert not archive.read(entry).startswith((b"PK", b"\x80")), entry.filename
