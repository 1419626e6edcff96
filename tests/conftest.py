"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from leanrec.data.store import Store
from toys import chain_store

settings.register_profile("leanrec", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leanrec")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers, in whatever order tests run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """60 users, 30 items, histories of 3 to 20 events in which an item mostly decides the next one; nothing is written to it."""
    return chain_store(tmp_path_factory.mktemp("tiny") / "store", users=60, items=30)


@pytest.fixture
def data_dir() -> Path:
    """The folder with real logs, for tests marked ``data``; they are skipped where LEANREC_DATA_DIR does not name one."""
    if "LEANREC_DATA_DIR" not in os.environ:
        pytest.skip("LEANREC_DATA_DIR is not set")
    return Path(os.environ["LEANREC_DATA_DIR"])
