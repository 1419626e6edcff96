"""The picture of the house is what its generator would draw now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "explanation"


def test_the_picture_is_of_today() -> None:
    spec = importlib.util.spec_from_file_location("house", FOLDER / "house.py")
    assert spec is not None and spec.loader is not None
    house = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(house)
    drawn = (FOLDER / "house.svg").read_text(encoding="utf-8")
    assert drawn == house.drawn(), "draw it again: python docs/explanation/house.py"
