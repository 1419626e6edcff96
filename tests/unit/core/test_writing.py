"""Files and directories are written whole or not at all, by one process at a time, readable by whom the umask says."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from leanrec.core import writing
from leanrec.core.errors import WriteError
from leanrec.core.writing import claimed, put, scratch, written

OTHER = """
import sys, time
from pathlib import Path
from leanrec.core import writing
with getattr(writing, sys.argv[1])(Path(sys.argv[2])) as made:
    (made or Path(sys.argv[2]) / "file").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
WRITERS: dict[str, Callable[[Path], AbstractContextManager[Path | None]]] = {"claimed": claimed, "written": written}
REFUSED = r"^expected nobody else to write .*out, got another process that does; wait for it, or choose another place$"


@contextmanager
def other(writer: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is writing."""
    command = [sys.executable, "-c", OTHER, writer, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_second_process_is_refused_while_the_first_one_lives(writer: str, tmp_path: Path) -> None:
    with other(writer, tmp_path / "out") as process:
        (tmp_path / "link").symlink_to(tmp_path / "out")  # another name of the same place
        for name in ("out", "link"):
            with pytest.raises(WriteError, match=REFUSED), WRITERS[writer](tmp_path / name):
                raise AssertionError("two write")
        process.send_signal(signal.SIGKILL)
        process.wait()
        (tmp_path / "link").unlink()
        with WRITERS[writer](tmp_path / "out") as made:
            (made or tmp_path / "out" / "mine").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # what the killed one left is gone


def test_two_in_one_process_are_refused_too(tmp_path: Path) -> None:
    with scratch(tmp_path / "out"), pytest.raises(WriteError, match=REFUSED), scratch(tmp_path / "out"):
        raise AssertionError("two write")
    with scratch(tmp_path / "out") as part:
        assert not list(part.iterdir())


def test_where_locks_do_not_work_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(writing.fcntl, "flock", unsupported)
    with caplog.at_level(logging.WARNING), written(tmp_path / "out") as made:
        made.write_text("whole")
    assert "out cannot be locked here (Operation not supported); let no other process write it meanwhile" in caplog.text
    assert (tmp_path / "out").read_text() == "whole"
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "theirs").write_text("who knows")
    with pytest.raises(WriteError, match=r"expected .*\.out\.part empty, got what another process left or still"):
        scratch(tmp_path / "out").__enter__()
    assert (tmp_path / ".out.part" / "theirs").exists()


@pytest.mark.parametrize("dangling", [False, True])
def test_what_a_link_points_to_is_written(dangling: bool, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "target")
    if not dangling:
        (tmp_path / "there" / "target").write_text("old")
    with written(tmp_path / "link") as made:
        assert made.parent.parent == tmp_path / "there"
        made.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "target").read_text() == "new"


def test_modes_are_those_of_the_umask(tmp_path: Path, umask: None) -> None:
    with written(tmp_path / "file") as made:
        made.write_text("some libraries write for the owner only")
        made.chmod(0o600)
    with scratch(tmp_path / "folder") as part:
        (part / "made" / "inner").mkdir(0o700, parents=True)
        (part / "made" / "inner" / "file").write_text("")
        (part / "made" / "inner" / "file").chmod(0o600)
        put(part / "made", tmp_path / "folder")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"file": 0o640, "folder": 0o750, "inner": 0o750}
    assert (tmp_path / "folder" / "inner" / "file").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    message = r"^cannot write .*file: No space left on device; free some space or choose another place$"
    with pytest.raises(WriteError, match=message), written(tmp_path / "file") as made:
        made.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "folder"):
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_only_files_are_replaced(tmp_path: Path) -> None:
    for path, what in ((tmp_path, "a directory"), (Path("/dev/null"), "a device")):
        with (
            pytest.raises(WriteError, match=rf"^expected a file to write, got {what} at {path}; choose another place$"),
            written(path),
        ):
            raise AssertionError("it is replaced")
    assert Path("/dev/null").is_char_device()


def test_a_directory_that_is_not_empty_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("")
    for overwrite in (False, True):
        with scratch(tmp_path / "out") as part:
            (part / "made").mkdir()
            if overwrite:
                put(part / "made", tmp_path / "out", overwrite)
            else:
                with pytest.raises(OSError, match="not empty"):
                    put(part / "made", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_what_was_being_replaced_by_a_killed_process_goes_back(tmp_path: Path) -> None:
    (tmp_path / ".out.part" / "replaced").mkdir(parents=True)
    (tmp_path / ".out.part" / "replaced" / "old").write_text("of great value")
    with scratch(tmp_path / "out"):
        assert (tmp_path / "out" / "old").read_text() == "of great value"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_directory_that_was_empty_before_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with claimed(tmp_path / "out"):
        pass
    assert (tmp_path / "out").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"expected a directory to write in, got a file at .*file; choose"):
        claimed(tmp_path / "file").__enter__()
