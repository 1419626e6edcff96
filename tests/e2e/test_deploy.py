"""What is in deploy/: linted, and true to the command and to the package's own requirements."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from leanrec.cli import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")


def linter(name: str) -> str:
    """A linter's path, of this environment or of the machine."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed; pip install --group test")


def clean(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_is_clean() -> None:
    clean(linter("hadolint"), str(DEPLOY / "Dockerfile"))


def test_the_manifest_is_valid() -> None:
    clean(linter("kubernetes-validate"), "--strict", str(DEPLOY / "kubernetes.yaml"))


def taken(arguments: list[str]) -> None:
    """That `leanrec serve` takes these arguments."""
    command = typer.main.get_command(app)
    assert hasattr(command, "commands")
    command.commands["serve"].make_context("serve", [*arguments])  # pyright: ignore[reportAttributeAccessIssue]


def manifests() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))


def test_the_manifest_says_what_the_command_takes() -> None:
    deployment, service, _ = manifests()
    pod = deployment["spec"]["template"]
    (server,) = pod["spec"]["containers"]
    taken(server["args"])
    options = dict(word.split("=") for word in server["args"] if "=" in word)
    assert (
        pod["spec"]["terminationGracePeriodSeconds"]
        > float(options["--drain-s"]) + float(options["--deadline-ms"]) / 1000
    )
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    paths = {server[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"/readyz", "/healthz"}
    for key in ("LEANREC_API_KEY", "LEANREC_ADMIN_KEY"):  # never written down
        (found,) = (entry for entry in server["env"] if entry["name"] == key)
        assert "secretKeyRef" in found["valueFrom"]


def test_the_image_starts_what_there_is() -> None:
    (words,) = re.findall(r"^CMD (\[.*\])", DOCKERFILE, re.MULTILINE)
    taken([word.strip(' "') for word in words.strip("[]").split(",")])
    assert '"-m", "leanrec.server"]' in DOCKERFILE


def test_the_image_has_what_an_export_needs_as_the_package_asks_for_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {*project["dependencies"], *(line for some in project["optional-dependencies"].values() for line in some)}
    asked = {line.partition(";")[0] for line in asked}
    installed = [
        word for word in shlex.split(DOCKERFILE.replace("\\\n", " "), comments=True) if re.match(r"[\w-]+>=", word)
    ]
    assert len(installed) >= 10 and set(installed) <= asked
    assert not [word for word in installed if word.startswith(("torch", "polars"))]
