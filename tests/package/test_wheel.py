"""The wheel: what is in it and what it says of itself; an empty environment that installs it trains, exports and serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.network]
SETTINGS = ("backbone.width=8", "backbone.layers=1", "backbone.heads=1", "train.epochs=1")


def ran(*command: str | Path, cwd: Path) -> str:
    """What a command prints, with nothing of this environment but pip's settings."""
    kept = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    env = kept | {"PATH": os.defpath, "HOME": os.environ.get("HOME", str(cwd)), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, ROOT, cwd=out)
    [made] = out.glob("leanrec-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Where the commands of an environment are that has the wheel, what it needs, and nothing else."""
    place = wheel.parent / "empty"
    ran(sys.executable, "-m", "venv", place, cwd=wheel.parent)
    ran(place / "bin" / "pip", "install", "--quiet", f"{wheel}[serve,onnx]", cwd=wheel.parent)
    return place / "bin"


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        [said] = [opened.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"leanrec"}
    assert "leanrec/py.typed" in names
    package = ROOT / "src" / "leanrec"
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {str(path.relative_to(ROOT / "src")) for path in files} <= set(names)
    headers = Parser().parsestr(said)
    assert headers["Name"] == "leanrec" and headers["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in headers.get_all("Classifier", [])
    assert headers["License-Expression"] == "Apache-2.0"
    assert headers.get_all("Project-URL") is None and headers["Home-page"] is None
    assert {"serve", "onnx"} <= set(headers.get_all("Provides-Extra", []))


def test_an_empty_environment_trains_exports_and_serves(installed: Path, wheel: Path, tmp_path: Path) -> None:
    leanrec = installed / "leanrec"
    version = wheel.name.split("-")[1]
    assert ran(leanrec, "--version", cwd=tmp_path).strip() == f"leanrec {version}"
    ran(leanrec, "data", "simulate", "--users", "60", "--out", "shop", cwd=tmp_path)
    ran(leanrec, "train", "shop", "--backbone", "sasrec", *SETTINGS, "--out", "run", cwd=tmp_path)
    ran(leanrec, "export", "run", "--out", "exported", cwd=tmp_path)
    command = [installed / "python", "-m", "leanrec.server", "exported", "--port", "0", "--json"]
    with subprocess.Popen([*map(str, command)], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        with urllib.request.urlopen(f"{url}/v1/model") as reply:
            assert json.load(reply)["routes"]
        server.terminate()
        assert server.wait(60) == 0
