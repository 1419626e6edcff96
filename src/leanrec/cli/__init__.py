"""The command line: parse, call, print."""

from __future__ import annotations

import os

# OpenMP's threads spin while they wait. If another process has one of the cores, all threads wait for the one that has none, and a
# training takes more than ten times as long. The variable is read when torch is imported, so it is set before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from leanrec.core.processors import quotas, usable

# OpenMP counts the cores that the process may run on, but not a quota of their time.
if quotas():
    os.environ.setdefault("OMP_NUM_THREADS", str(usable()))

from leanrec.cli.main import app, run_cli

__all__ = ["app", "run_cli"]
