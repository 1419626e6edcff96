"""Training that is killed, stopped or runs out of disk goes on to the same numbers, to the last digit."""

from __future__ import annotations

import csv
import errno
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from e2e.command import leanrec
from e2e.conftest import TINY
from e2e.processes import Ended, program
from leanrec.artifact.manifest import read_manifest
from leanrec.data.store import Store

SETTINGS = (*TINY, "train.epochs=6", "train.batch_users=16", "train.patience=0")

STOPPED = """
import os, signal, sys
from leanrec.cli.main import run_cli
from leanrec.train import checkpoint
from leanrec.train.log import CsvLog

STOP = {stop}

def in_a_step(self, progress):
    if (progress.epoch, progress.step) == (2, 3):
        os.kill(os.getpid(), STOP)

def in_a_write(tensors, path, metadata):
    whole(tensors, path, metadata)
    if '"epoch":3,' in metadata["progress"]:
        with open(path, "rb+") as file:
            file.truncate(100)
        os.kill(os.getpid(), STOP)

whole = checkpoint.save_file
{place}
run_cli()
"""
AT_ONCE = "CsvLog.step = lambda self, progress: os.kill(os.getpid(), STOP)"
IN_A_STEP, IN_A_WRITE = "CsvLog.step = in_a_step", "checkpoint.save_file = in_a_write"


def stopped(stop: signal.Signals, place: str, store: Path, out: Path, *settings: str) -> Ended:
    """Train in a process that is sent a signal at an exact point."""
    code = STOPPED.format(stop=int(stop), place=place)
    return program(code, "train", store, "--backbone", "sasrec", *SETTINGS, *settings, "--out", out)


def numbers(run: Path) -> dict[str, Any]:
    """Everything of a run that may not depend on what happened on the way."""
    manifest = read_manifest(run)
    with (run / "log.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]
    return {
        "files": sorted(path.name for path in run.iterdir()),
        "weights": (run / "model.safetensors").read_bytes(),
        "config": manifest.config,
        "train": (manifest.train.epochs, manifest.train.best_epoch, manifest.train.valid),
        "log": rows,
        "test": leanrec("evaluate", run, "--json").json["metrics"],
    }


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The numbers of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    ended = leanrec("train", store, "--backbone", "sasrec", *SETTINGS, "--out", out)
    assert ended.code == 0, ended.err
    return numbers(out)


def test_killed_in_a_step(store: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert stopped(signal.SIGKILL, IN_A_STEP, store, out).returncode == -signal.SIGKILL
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.safetensors", "config.toml", "log.csv"]
    assert leanrec("evaluate", out).error == (
        f"training of {out} has not finished; go on with 'leanrec train DATA --out {out} --resume'"
    )
    done = program("from leanrec.cli.main import run_cli; run_cli()", "train", store, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "train: going on at epoch 3, step 0" in done.stderr
    assert numbers(out) == whole


def test_killed_between_checkpoints_within_an_epoch(store: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    every_step = "train.checkpoint_seconds=0"
    assert stopped(signal.SIGKILL, IN_A_STEP, store, out, every_step).returncode == -signal.SIGKILL
    ended = leanrec("train", store, "--out", out, "--resume")
    assert "train: going on at epoch 3, step 3" in ended.err
    found = numbers(out)
    found["config"]["train"]["checkpoint_seconds"] = whole["config"]["train"]["checkpoint_seconds"]
    assert found == whole


def test_killed_while_a_checkpoint_is_written(store: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert stopped(signal.SIGKILL, IN_A_WRITE, store, out).returncode == -signal.SIGKILL
    ended = leanrec("train", store, "--out", out, "--resume")
    assert "train: going on at epoch 3, step 0" in ended.err
    assert numbers(out) == whole


def test_killed_before_the_first_checkpoint_of_a_run_that_starts_from_another(
    store: Path, run: Path, tmp_path: Path
) -> None:
    settings = (f"train.init={run}", "train.epochs=2")
    assert stopped(signal.SIGKILL, AT_ONCE, store, tmp_path / "run", *settings).returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert leanrec("train", store, "--out", tmp_path / "run", "--resume").code == 0
    whole = ("--backbone", "sasrec", *SETTINGS, *settings, "--out", tmp_path / "whole")
    assert leanrec("train", store, *whole).code == 0
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")


def test_stopped_from_the_keyboard(store: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = stopped(signal.SIGINT, IN_A_STEP, store, out)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr.endswith("\ninterrupted\n")
    assert "Traceback" not in ended.stderr
    assert leanrec("train", store, "--out", out, "--resume", "--json").json["valid"] == whole["train"][2]
    assert numbers(out) == whole


def test_a_disk_full_at_a_checkpoint(
    store: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanrec.train import checkpoint

    out, save = tmp_path / "run", checkpoint.save_file

    def full(tensors: Any, path: Path, metadata: dict[str, str]) -> None:
        if '"epoch":2,' in metadata["progress"]:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", full)
    ended = leanrec("train", store, "--backbone", "sasrec", *SETTINGS, "--out", out)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == (
        f"error: cannot write {out / 'checkpoint.safetensors'}: No space left on device; "
        "free some space, then go on with --resume"
    )
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.safetensors", "config.toml", "log.csv"]
    monkeypatch.undo()
    assert leanrec("train", store, "--out", out, "--resume").code == 0
    assert numbers(out) == whole


def test_a_disk_full_at_the_end(
    store: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanrec.artifact import store as artifacts

    def full(tensors: Any, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "run"
    monkeypatch.setattr(artifacts, "save_file", full)
    ended = leanrec("train", store, "--backbone", "sasrec", *SETTINGS, "--out", out)
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == (
        f"error: cannot write {out / 'model.safetensors'}: No space left on device; "
        "free some space or choose another place"
    )
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.safetensors", "config.toml", "log.csv"]
    monkeypatch.undo()
    assert leanrec("train", store, "--out", out, "--resume").code == 0
    assert numbers(out) == whole


def test_a_disk_full_at_the_start(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, encoding: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    ended = leanrec("train", store, "--backbone", "sasrec", *SETTINGS, "--out", tmp_path / "run")
    assert ended.error == (
        f"cannot write {tmp_path / 'run' / 'config.toml'}: No space left on device; "
        "free some space or choose another place"
    )
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.toml").write_text(
        '[backbone]\nname = "sasrec"\nwidth = 8\nheads = 1\n[train]\nloss_precision = "float32"\nencoder_precision = "float32"\n'
    )
    (out / "checkpoint.safetensors").write_bytes(b"half")
    error = leanrec("train", store, "--out", out, "--resume").error
    assert error.startswith(f"the checkpoint {out / 'checkpoint.safetensors'} is damaged (")
    assert error.endswith("delete it to train from the start")


def test_a_finished_run_is_left_as_it_is(store: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "checkpoint.safetensors").write_bytes(b"left by a process that was killed at the very end")
    ended = leanrec("train", store, "--out", out, "--resume", "--json")
    assert ended.err == f"{out} is finished, nothing is left to train\n"
    assert ended.json["valid"] == read_manifest(run).train.valid
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def started(out: Path, data: str) -> Path:
    """A run's directory as it is right after the start."""
    out.mkdir()
    (out / "config.toml").write_text(f'[backbone]\nname = "sasrec"\nwidth = 8\nheads = 1\n[data]\n{data}\n')
    return out


def test_another_store_is_not_resumed_on(store: Path, tmp_path: Path) -> None:
    out = started(tmp_path / "run", 'catalog_sha256 = "0123"')
    error = leanrec("train", store, "--out", out, "--resume").error
    assert error == f"expected the store that {out} was started on, got one with other items in {store}"
    out = started(tmp_path / "longer", "events = 3")
    error = leanrec("train", store, "--out", out, "--resume").error
    events = f"{Store.open(store).num_events:,}"
    assert error == f"expected the store of 3 events that {out} was started on, got one of {events} in {store}"


def test_a_device_that_is_not_there(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    error = leanrec("train", store, "--backbone", "sasrec", "train.device=cuda", "--out", tmp_path / "run").error
    assert error == "expected a CUDA device for train.device=cuda, got none here; use auto or cpu"
    assert not (tmp_path / "run").exists()
