"""Threads sleep while they wait, no more than a quota allows, unless the user says so; torch reads that when it is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FIRST = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ["OMP_WAIT_POLICY"])
            raise SystemExit

sys.meta_path.insert(0, Watch())
import leanrec.cli
"""


@pytest.mark.parametrize(("asked", "found"), [(None, "passive"), ("active", "active")])
def test_it_is_said_before_torch_is_imported(asked: str | None, found: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": asked} if asked else {}
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == found


@pytest.mark.parametrize(("asked", "found"), [(None, "1"), ("2", "2")])
def test_a_quota_is_said_to_openmp(asked: str | None, found: str) -> None:
    code = """
import leanrec.core.processors as processors
processors.quotas, processors.usable = lambda: [0.5], lambda: 1
""" + FIRST.replace("OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": asked} if asked else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == found
