"""Installs packages that add things to leanrec into a folder, offline, and runs commands where they are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.command import Result

TESTS = Path(__file__).parents[1]
RUN = """
import json, sys
from dataclasses import asdict
from e2e.command import leanrec
json.dump([asdict(leanrec(*arguments)) for arguments in json.loads(sys.argv[1])], sys.stdout)
"""


def wheel(where: Path, name: str, files: Mapping[str, str], points: Mapping[str, Mapping[str, str]]) -> Path:
    """A wheel of files, with the entry points of every group."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    groups = "\n".join(
        "\n".join([f"[{group}]", *(f"{point} = {value}" for point, value in named.items()), ""])
        for group, named in points.items()
    )
    written = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": groups,
    }
    record = "".join(f"{path},,\n" for path in [*written, f"{info}/RECORD"])
    made = where / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in {**written, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return made


def install(package: Path, target: Path) -> None:
    """Install a wheel into a folder."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(target), str(package)], check=True, capture_output=True)


def run(target: Path, commands: Sequence[Sequence[object]]) -> list[Result]:
    """Run commands, one after the other, in one new process that sees what is installed in a folder."""
    path = os.pathsep.join(filter(None, (str(target), str(TESTS), os.environ.get("PYTHONPATH"))))
    given = json.dumps([[str(argument) for argument in command] for command in commands])
    ended = subprocess.run(
        [sys.executable, "-c", RUN, given], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return [Result(**result) for result in json.loads(ended.stdout)]
