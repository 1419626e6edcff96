"""What commands write: whole or not at all, one command at a time, through links, readable as the umask says."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.command import leanrec, refused
from e2e.conftest import TINY
from e2e.processes import program
from leanrec.core.writing import claimed, scratch
from leanrec.data.store import Store
from leanrec.export import write

TRAIN = ("--backbone", "sasrec", *TINY, "train.epochs=1")


@pytest.fixture
def commands(store: Path, run: Path, log: Path) -> dict[str, tuple[object, ...]]:
    """Commands that write, without their --out."""
    return {
        "train": ("train", store, *TRAIN),
        "slim": ("slim", store, *TRAIN),
        "import": ("data", "import", log),
        "simulate": ("data", "simulate", "--users", 100),
        "export": ("export", run),
        "recommend": ("recommend", run, "--data", store, "-k", 3),
        "report": ("report", run),
    }


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """The system refuses to write files above some bytes; only for a moment, since pytest may be writing into one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_of_two_trainings_at_once_one_is_refused(store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "leanrec", "train", store, *TRAIN, "--out", tmp_path / "run"]
    both = [subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = sorted((process.communicate(timeout=100)[1], process.returncode) for process in both)
    assert sorted(code for _, code in ends) == [0, 2]
    (error,) = (text for text, code in ends if code == 2)
    assert error.count("\n") == 1
    assert "another process that does" in error or "exists; go on with --resume" in error  # where the first was quick
    assert leanrec("evaluate", tmp_path / "run").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("command", ["train", "slim"])
def test_a_directory_that_is_written_in_is_for_one(
    command: str, commands: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    with claimed(tmp_path / "out"):
        error = refused(tmp_path, *commands[command], "--out", tmp_path / "out")
    assert error.startswith(f"expected nobody else to write {tmp_path / 'out'}, got another process that does; wait")


@pytest.mark.parametrize("command", ["import", "simulate", "export", "recommend", "report"])
def test_what_is_made_whole_is_made_by_one(
    command: str, commands: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    with scratch(tmp_path / "out"):
        error = refused(tmp_path, *commands[command], "--out", tmp_path / "out", "--json")
    assert error.startswith(f"expected nobody else to write {tmp_path / 'out'}, got another process that does; wait")


@pytest.mark.parametrize("command", ["train", "import", "export", "recommend", "report"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    command: str, commands: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    with small_files(500):
        ended = leanrec(*commands[command], "--out", tmp_path / "out")
    lines = ended.err.splitlines()
    assert ended.code == 2 and lines[-1].startswith(f"error: cannot write {tmp_path / 'out'}"), ended.err
    assert lines[-1].endswith("; free some space or choose another place") and "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "slim", "import", "export", "recommend", "report"])
def test_a_place_that_cannot_be_written_is_one_line(
    command: str, commands: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    out = Path("/proc/leanrec/out")  # where nothing can be made, not even by root
    assert refused(tmp_path, *commands[command], "--out", out, "--json").startswith(f"cannot write {out}: ")


def test_an_import_writes_through_a_link(log: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    for more in ((), ("--overwrite",)):
        assert leanrec("data", "import", log, "--out", tmp_path / "link", *more).code == 0
        assert (tmp_path / "link").is_symlink()
        assert Store.open(tmp_path / "disk" / "data").num_users == Store.open(tmp_path / "link").num_users
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def test_all_files_are_readable_as_the_umask_says(store: Path, run: Path, log: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        assert leanrec("train", store, *TRAIN, "--out", tmp_path / "run").code == 0
        assert leanrec("export", run, "--format", "pt2", "--out", tmp_path / "export").code == 0
        assert leanrec("data", "import", log, "--out", tmp_path / "data").code == 0
        top = ("--data", store, "--out", tmp_path / "top.parquet", "-k", 3)
        assert leanrec("recommend", run, *top).code == 0
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert len(modes) > 15 and "export/weights.safetensors" in modes
    assert {
        name: oct(mode) for name, mode in modes.items() if mode != (0o755 if (tmp_path / name).is_dir() else 0o644)
    } == {}


def test_sigterm_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_compared", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    ended = leanrec("export", run, "--format", "pt2", "--out", tmp_path / "out")
    assert ended.code == 143 and ended.err.endswith("\nterminated\n") and "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_sigkill_leaves_is_removed_by_the_next_one(run: Path, tmp_path: Path) -> None:
    code = (
        "import os\nfrom leanrec.cli.main import run_cli\nfrom leanrec.export import write\n"
        "write._compared = lambda *_: os.kill(os.getpid(), 9)\nrun_cli()\n"
    )
    assert program(code, "export", run, "--out", tmp_path / "out").returncode == -signal.SIGKILL
    assert "weights.safetensors" in {path.name for path in tmp_path.rglob("*")}
    assert leanrec("export", run, "--out", tmp_path / "out").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
