"""The command line: parse, call, print."""

from __future__ import annotations

import os

# OpenMP's threads spin while they wait. Where another process has one of the cores, all wait for the thread that has none, and a
# training takes more than ten times as long. The variable is read when torch is imported, so it comes first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from leanrec.cli.main import app, main

__all__ = ["app", "main"]
