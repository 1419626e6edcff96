"""A PostgreSQL server of one's own, without a port, in a folder that is gone in the end."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "se?cret"
_ADDRESS = "postgresql://me:se%3Fcret@/postgres?host={}"


@contextmanager
def postgres() -> Iterator[str]:
    """The address of a new server; skips where there are no programs or no driver for one."""
    pytest.importorskip("adbc_driver_postgresql", reason="needs the package adbc-driver-postgresql")
    folder = Path(tempfile.mkdtemp(prefix="leanrec-pg-"))
    try:
        if not all(map(shutil.which, ("initdb", "pg_ctl", "postgres"))):
            pytest.skip("needs initdb, pg_ctl and postgres in PATH")
        (folder / "password").write_text(PASSWORD)
        who = _somebody(folder)
        secret = ("--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
        _run(folder, who, ["initdb", "-D", "data", "-U", "me", "-E", "UTF8", "--locale=C", "--no-sync", *secret])
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        _run(folder, who, ["pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start"])
        try:
            yield _ADDRESS.format(folder)
        finally:
            _run(folder, who, ["pg_ctl", "-D", "data", "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder)


def _somebody(folder: Path) -> dict[str, Any]:
    """Whom the server runs as: it refuses root."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _run(folder: Path, who: dict[str, Any], command: Sequence[str]) -> None:
    with (folder / "output").open("ab") as output:  # a pipe would be held open by the server
        subprocess.run(command, cwd=folder, stdout=output, stderr=output, check=True, timeout=120, **who)
