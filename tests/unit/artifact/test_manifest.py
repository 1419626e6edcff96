"""The manifest: round trip, version, and everything a stranger could put into it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanrec.artifact.manifest import LARGEST, Manifest, read_manifest
from leanrec.core.errors import ArtifactError
from leanrec.core.folder import sealed

NAME = "manifest.json"


def rewrite(run: Path, change: Any) -> None:
    tree = json.loads((run / NAME).read_bytes())
    change(tree)
    (run / NAME).write_text(json.dumps(tree))


def test_round_trip(run: Path, manifest: Manifest) -> None:
    got = read_manifest(run)
    assert set(got.files) == {"model.safetensors", "catalog.parquet"}
    assert msgspec.structs.replace(got, files={}, sha256=manifest.sha256) == manifest


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(config=st.dictionaries(st.text(), json_values, max_size=4), name=st.text())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_config_and_name_survive(run: Path, config: dict[str, Any], name: str) -> None:
    written = read_manifest(run)
    written = msgspec.structs.replace(written, config=config, data=msgspec.structs.replace(written.data, name=name))
    before = (run / NAME).read_bytes()
    try:
        signed, raw = sealed(written)
        (run / NAME).write_bytes(raw)
        assert read_manifest(run) == signed
    finally:
        (run / NAME).write_bytes(before)


@pytest.mark.parametrize("version", [0, 3, 9, None, "one", [1]])
def test_other_version_is_refused_before_anything_else(run: Path, version: Any) -> None:
    (run / NAME).write_text(json.dumps({"schema": version, "what": "a later version may hold"}))
    expected = f"run {run} has schema version {version!r}, this leanrec reads 1 and 2; retrain or upgrade leanrec"
    with pytest.raises(ArtifactError, match=re.escape(expected)):
        read_manifest(run)


def test_missing_version_is_refused(run: Path) -> None:
    rewrite(run, lambda tree: tree.pop("schema"))
    with pytest.raises(ArtifactError, match="has schema version None, this leanrec reads 1 and 2"):
        read_manifest(run)


def test_edited_metric_is_refused(run: Path) -> None:
    raw = (run / NAME).read_bytes()
    (run / NAME).write_bytes(raw.replace(b'"ndcg@10": 0.5', b'"ndcg@10": 0.9'))
    expected = r"manifest\.json of run .* was edited: expected sha256 '\w{12}', got '\w{12}'; retrain or restore it"
    with pytest.raises(ArtifactError, match=expected):
        read_manifest(run)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "..\\x",
        "a\0b",
        "sub/model.safetensors",
        "./model.safetensors",
        "",
        "model.SAFETENSORS",
        "x" * 9999,
    ],
)
def test_foreign_file_names_are_refused(run: Path, name: str) -> None:
    rewrite(run, lambda tree: tree["files"].update({name: tree["files"]["model.safetensors"]}))
    with pytest.raises(
        ArtifactError, match=r"expected only model\.safetensors and catalog\.parquet in the file list"
    ) as e:
        read_manifest(run)
    assert repr(name)[:100] in str(e.value) and "\0" not in str(e.value) and len(str(e.value)) < 600


def test_missing_checksum_is_refused(run: Path) -> None:
    rewrite(run, lambda tree: tree["files"].pop("model.safetensors"))
    with pytest.raises(ArtifactError, match=r"expected model\.safetensors in the file list of .*, got none"):
        read_manifest(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(surprise=1),
        lambda tree: tree.update({"two\nlines": 1}),
        lambda tree: tree.pop("data"),
        lambda tree: tree["data"].update(items="many"),
        lambda tree: tree.update(routes=[["full", 1]]),
        lambda tree: tree["data"].update(events=1.5),
        lambda tree: tree["train"].update(valid={"ndcg@10": None}),
        lambda tree: tree["files"].update({"model.safetensors": 3}),
    ],
)
def test_wrong_fields_are_one_line(run: Path, change: Any) -> None:
    rewrite(run, change)
    with pytest.raises(ArtifactError, match=r"manifest\.json of run .* is damaged: .*; retrain or restore it") as e:
        read_manifest(run)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"schema": "\xff"}',
        b"[" * 100_000,
        b'{"config":' + b"[" * 100_000,
        b"PK\x03\x04",
    ],
    ids=range(9),
)
def test_not_json_is_refused(run: Path, raw: bytes) -> None:
    (run / NAME).write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"manifest\.json of run .* is damaged"):
        read_manifest(run)


def test_deep_config_is_refused(run: Path) -> None:
    raw = (run / NAME).read_bytes()
    (run / NAME).write_bytes(raw.replace(b'"config": {', b'"config": {"deep": ' + b"[" * 5000 + b"]" * 5000 + b",", 1))
    with pytest.raises(ArtifactError, match="is damaged"):
        read_manifest(run)


def test_huge_manifest_is_refused(run: Path) -> None:
    with (run / NAME).open("r+b") as file:
        file.truncate(LARGEST + 1)  # sparse
    with pytest.raises(ArtifactError, match=f"expected at most {LARGEST} bytes, got more in .*; retrain or restore it"):
        read_manifest(run)


def test_missing_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected the directory of a run, got nothing at .*none; make one with"):
        read_manifest(tmp_path / "none")


def test_file_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item")
    with pytest.raises(ArtifactError, match=r"expected the directory of a run, got a file at .*log\.csv"):
        read_manifest(tmp_path / "log.csv")


def test_directory_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected a run with manifest\.json, got none at .*; make one with"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["config.toml", "checkpoint.safetensors"])
def test_unfinished_training_says_how_to_go_on(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    expected = f"training of {tmp_path} has not finished; go on with 'leanrec train DATA --out {tmp_path} --resume'"
    with pytest.raises(ArtifactError, match=re.escape(expected)):
        read_manifest(tmp_path)


def test_manifest_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(ArtifactError, match=r"expected the file manifest\.json in the run .*, got none"):
        read_manifest(tmp_path)


def test_manifest_link_that_leaves_the_run(run: Path, tmp_path: Path) -> None:
    (run / NAME).rename(tmp_path / "elsewhere.json")
    (run / NAME).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(
        ArtifactError, match=r"expected manifest\.json inside the run .*, got a link to .*elsewhere\.json"
    ):
        read_manifest(run)


def test_link_that_goes_in_circles(run: Path) -> None:
    (run / NAME).unlink()
    (run / NAME).symlink_to(run / NAME)
    with pytest.raises(ArtifactError, match=r"expected the file manifest\.json"):
        read_manifest(run)
