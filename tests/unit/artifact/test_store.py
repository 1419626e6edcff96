"""Runs on disk: same in as out, whole or absent, and no damaged or hostile file is ever used."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from leanrec.artifact import store as module
from leanrec.artifact.manifest import Manifest, read_manifest
from leanrec.artifact.store import load_run, save_run
from leanrec.core.digest import catalog_digest
from leanrec.core.errors import ArtifactError, WriteError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Catalog

MODEL, CATALOG, NAME = "model.safetensors", "catalog.parquet", "manifest.json"
FILES = [MODEL, CATALOG, NAME]
Forge = Callable[..., None]


def content(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir()}


def test_round_trip(run: Path, model: Recommender, catalog: Catalog, manifest: Manifest) -> None:
    got, state, items = load_run(run)
    assert items == catalog
    assert got.config == manifest.config and got.data == manifest.data
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor)
    assert sorted(content(run)) == sorted(FILES)


def test_saving_returns_what_loading_reads(tmp_path: Path, catalog: Catalog, manifest: Manifest) -> None:
    written = save_run(tmp_path / "a" / "b", {"w": torch.ones(2)}, catalog, manifest)
    assert written == load_run(tmp_path / "a" / "b")[0]


def test_other_files_of_a_run_are_left_alone(run: Path) -> None:
    (run / "log.csv").write_text("epoch,loss\n")
    (run / "checkpoint.safetensors").write_bytes(b"half")
    load_run(run)
    assert (run / "log.csv").exists()


def test_shared_and_strided_tensors(tmp_path: Path, catalog: Catalog, manifest: Manifest) -> None:
    weight = torch.arange(12.0).view(3, 4)
    tied = {"a": weight, "b": weight, "c": weight.t(), "empty": torch.empty(0, 3), "half": weight.bfloat16()}
    save_run(tmp_path, tied, catalog, manifest)
    state = load_run(tmp_path)[1]
    assert all(torch.equal(state[name], tied[name]) for name in tied)


@given(keys=st.lists(st.text(), min_size=1, max_size=20, unique=True), data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_keys_and_titles(tmp_path: Path, manifest: Manifest, keys: list[str], data: st.DataObject) -> None:
    titles = data.draw(st.lists(st.text(), min_size=len(keys), max_size=len(keys)))
    catalog = Catalog(tuple(keys), tuple(titles), tuple(range(len(keys), 0, -1)))
    of = msgspec.structs.replace(manifest.data, items=len(keys), catalog_sha256=catalog_digest(keys))
    save_run(tmp_path, {"w": torch.ones(1)}, catalog, msgspec.structs.replace(manifest, data=of))
    assert load_run(tmp_path)[2] == catalog


@pytest.mark.parametrize("name", FILES)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@example(where=0.0, flip=1)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_flipped_byte_is_refused_by_name(run: Path, name: str, where: float, flip: int) -> None:
    raw = (run / name).read_bytes()
    bad = bytearray(raw)
    bad[int(where * len(raw))] ^= flip
    (run / name).write_bytes(bad)
    try:
        # a flipped byte can also turn the manifest into one of another version, which names the run
        with pytest.raises(ArtifactError, match=rf"{re.escape(name)}|has schema version") as e:
            load_run(run)
        assert "\n" not in str(e.value)
    finally:
        (run / name).write_bytes(raw)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0.0, 0.3, 0.99])
def test_any_cut_is_refused_by_name(run: Path, name: str, left: float) -> None:
    raw = (run / name).read_bytes()
    (run / name).write_bytes(raw[: int(left * len(raw))])
    with pytest.raises(ArtifactError, match=re.escape(name)):
        load_run(run)


@pytest.mark.parametrize("name", [MODEL, CATALOG])
def test_messages_of_changed_files(run: Path, name: str) -> None:
    raw = (run / name).read_bytes()
    (run / name).write_bytes(raw[:-1])
    expected = f"{name} of run {run} is truncated: expected {len(raw)} bytes, got {len(raw) - 1}; retrain or restore it"
    with pytest.raises(ArtifactError, match=re.escape(expected)):
        load_run(run)
    (run / name).write_bytes(raw + b"!")
    with pytest.raises(ArtifactError, match=f"{name} of run .* is longer than it was: expected {len(raw)} bytes"):
        load_run(run)
    (run / name).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(
        ArtifactError, match=rf"{name} of run .* was edited: expected sha256 '\w{{12}}', got '\w{{12}}'"
    ):
        load_run(run)
    (run / name).unlink()
    with pytest.raises(
        ArtifactError, match=f"expected the file {name} in the run {run}, got none; retrain or restore it"
    ):
        load_run(run)


@pytest.mark.parametrize("name", [MODEL, CATALOG])
def test_link_that_leaves_the_run_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to("../elsewhere")
    with pytest.raises(
        ArtifactError, match=f"expected {name} inside the run .*, got a link to .*elsewhere; copy the file"
    ):
        load_run(run)


def test_links_within_and_to_a_run_are_fine(run: Path, tmp_path: Path) -> None:
    (run / MODEL).rename(run / "weights-1")
    (run / MODEL).symlink_to("weights-1")
    (tmp_path / "latest").symlink_to(run)
    load_run(tmp_path / "latest")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_not_waited_for(run: Path) -> None:
    (run / MODEL).unlink()
    os.mkfifo(run / MODEL)
    with pytest.raises(ArtifactError, match=f"expected the file {MODEL}"):
        load_run(run)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("pickle-ran",)


@pytest.mark.parametrize("form", ["zip", "legacy", 2, 3, 4, 5])
def test_pickle_is_refused_unread(
    run: Path, tmp_path: Path, forge: Forge, form: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(form, int):
        raw = pickle.dumps(Bomb(), protocol=form)
    else:
        torch.save({"w": torch.ones(1), "bomb": Bomb()}, "file", _use_new_zipfile_serialization=form == "zip")
        raw = Path("file").read_bytes()
    expected = f"{MODEL} of run {run} is a pickle, which can run code; expected safetensors, retrain or restore it"
    (run / MODEL).write_bytes(raw)  # in the right place with the wrong checksum
    with pytest.raises(ArtifactError, match=re.escape(expected)):
        load_run(run)
    forge(MODEL, raw)  # with the right one
    with pytest.raises(ArtifactError, match=re.escape(expected)):
        load_run(run)
    assert not Path("pickle-ran").exists()


def test_weights_that_begin_like_a_pickle_are_read(tmp_path: Path, catalog: Catalog, manifest: Manifest) -> None:
    beginnings = set()
    for length in range(400, 700):
        save_run(tmp_path, {"x" * length: torch.ones(1)}, catalog, manifest)
        beginnings.add((tmp_path / MODEL).read_bytes()[:2])
        if b"\x80\x02" in beginnings:
            assert load_run(tmp_path)[1].keys() == {"x" * length}
            return
    pytest.fail("no header of 640 bytes was met")


def header(fields: object, data: bytes = b"", length: int | None = None) -> bytes:
    raw = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x08",
        header({}, length=2**63),
        header({}, length=2**40),
        header(b"not json"),
        header(b"[" * 100_000),
        header({"w": entry([2**40], [0, 2**42])}),
        header({"w": entry([2**62, 2**62], [0, 8])}, bytes(8)),
        header({"w": entry([10**9], [0, 8])}, bytes(8)),
        header({"w": entry([2], [0, 8])}, bytes(4)),
        header({"w": entry([2], [0, 8])}, bytes(12)),
        header({"w": entry([2], [8, 16])}, bytes(16)),
        header({"w": entry([2], [8, 0])}, bytes(8)),
        header({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, bytes(12)),
        header({"w": entry([-1], [0, 8])}, bytes(8)),
        header({"w": entry([2], [0, 8], "OBJECT")}, bytes(8)),
    ],
    ids=range(16),
)
def test_hostile_headers_are_refused(run: Path, forge: Forge, raw: bytes) -> None:
    forge(MODEL, raw)
    with pytest.raises(ArtifactError, match=rf"{MODEL} of run .* is not a whole safetensors file: .*; retrain") as e:
        load_run(run)
    assert "\n" not in str(e.value)


@given(cut=st.integers(0, 200), flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255))))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_forged_noise_gives_weights_or_one_line(
    run: Path, forge: Forge, cut: int, flips: list[tuple[float, int]]
) -> None:
    before = content(run)
    raw = bytearray(before[MODEL])[: len(before[MODEL]) - cut]
    for where, flip in flips:
        raw[int(where * len(raw))] ^= flip
    forge(MODEL, bytes(raw))
    try:
        load_run(run)
    except ArtifactError as error:
        assert MODEL in str(error) and "\n" not in str(error)
    finally:
        for file, whole in before.items():
            (run / file).write_bytes(whole)


def parquet(tmp_path: Path, **columns: object) -> bytes:
    pl.DataFrame(columns).write_parquet(tmp_path / "forged")
    return (tmp_path / "forged").read_bytes()


def test_catalogue_of_another_run_is_refused(run: Path, tmp_path: Path, forge: Forge, catalog: Catalog) -> None:
    keys = [*catalog.keys[:-1], "other"]
    forge(CATALOG, parquet(tmp_path, item=keys, title=catalog.titles, count=catalog.counts))
    with pytest.raises(ArtifactError, match=r"is not its catalogue: expected item keys with sha256 '\w+', got '\w+'"):
        load_run(run)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"item": ["a"], "title": ["a"], "count": [1]},
            "expected 10 rows of item, title, count, got 1 of item, title, count",
        ),
        ({"item": ["a"] * 10}, "expected 10 rows of item, title, count, got 10 of item;"),
        ({"item": ["a"] * 10, "title": ["a"] * 10, "count": ["1"] * 10}, "expected 10 rows of item, title, count"),
        ({"item": ["a"] * 10, "title": ["a"] * 10, "count": [1] * 10}, "expected each item once and no empty field"),
        (
            {"item": list("abcdefghij"), "title": [None, *"abcdefghi"], "count": [1] * 10},
            "expected each item once and no",
        ),
    ],
)
def test_wrong_catalogues_are_refused(
    run: Path, tmp_path: Path, forge: Forge, columns: dict[str, object], expected: str
) -> None:
    forge(CATALOG, parquet(tmp_path, **columns))
    with pytest.raises(ArtifactError, match=f"{CATALOG} of run .* is not its catalogue: {expected}"):
        load_run(run)


def test_catalogue_that_is_not_parquet(run: Path, forge: Forge) -> None:
    forge(CATALOG, b"item,title,count\n")
    with pytest.raises(ArtifactError, match=f"{CATALOG} of run .* is not its catalogue: expected Parquet, got "):
        load_run(run)


def test_catalogue_that_the_reader_gives_up_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(path: Path) -> None:
        raise pl.exceptions.PanicException("assertion failed:\n  range.end <= size")  # not an Exception

    monkeypatch.setattr(pl, "scan_parquet", panic)
    with pytest.raises(ArtifactError, match=f"{CATALOG} of run .*: expected Parquet, got assertion failed: range.end"):
        load_run(run)


def fail(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(params=[MODEL, CATALOG, NAME])
def full_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the file whose writing fails."""
    owner, name = {
        MODEL: (module, "save_file"),
        CATALOG: (pl.DataFrame, "write_parquet"),
        NAME: (Path, "write_bytes"),
    }[request.param]
    monkeypatch.setattr(owner, name, fail)
    return request.param


def test_full_disk_leaves_nothing(tmp_path: Path, catalog: Catalog, manifest: Manifest, full_disk: str) -> None:
    with pytest.raises(
        WriteError, match=rf"cannot write .*{re.escape(full_disk)}: .*No space left .*; free some space"
    ):
        save_run(tmp_path, {"w": torch.ones(1)}, catalog, manifest)
    assert not list(tmp_path.iterdir())


def test_full_disk_keeps_the_run_that_was_there(
    run: Path, catalog: Catalog, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(run)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(WriteError, match="cannot write"):
            save_run(run, {"other": torch.ones(1)}, catalog, manifest)
    assert content(run) == before


@contextmanager
def small_files() -> Iterator[None]:
    """The system refuses to write files above 1000 bytes; for a moment only, since pytest may be writing into one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", [MODEL, CATALOG])
def test_a_limit_of_the_system_is_one_line(tmp_path: Path, manifest: Manifest, name: str) -> None:
    state = {"w": torch.ones(10_000 if name == MODEL else 1)}
    keys = tuple(str(i**5) for i in range(9999))
    message = rf"cannot write .*{re.escape(name)}: .*; free some space"
    with pytest.raises(WriteError, match=message), small_files():
        save_run(tmp_path, state, Catalog(keys, keys, tuple(range(9999))), manifest)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way(tmp_path: Path, catalog: Catalog, manifest: Manifest) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(
        WriteError, match=r"cannot write .*manifest.json: Not a directory; free some space or choose another place"
    ):
        save_run(tmp_path / "out", {"w": torch.ones(1)}, catalog, manifest)


def test_manifest_is_written_last(
    tmp_path: Path, catalog: Catalog, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def replace(source: Path, target: Path) -> None:
        order.append(target.name)
        source.rename(target)

    monkeypatch.setattr(Path, "replace", replace)
    save_run(tmp_path, {"w": torch.ones(1)}, catalog, manifest)
    assert order[-1] == NAME and sorted(order) == sorted(FILES)


def test_manifest_states_the_files(run: Path) -> None:
    for name, ref in read_manifest(run).files.items():
        assert ref.bytes == (run / name).stat().st_size
