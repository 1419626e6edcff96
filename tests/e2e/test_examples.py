"""The notebooks run from their first cell to their last in a kernel of their own, and print what they hold, apart from figures."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import pytest

import leanrec

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed; pip install --group notebooks")
EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
FIGURE = re.compile(r"-?\d[\d,.]*")


def printed(notebook: Any) -> list[str]:
    """What each cell of code printed, a figure as "#" and blanks as one."""
    texts = ["".join(output.text for output in cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    return [" ".join(FIGURE.sub("#", text).split()) for text in texts]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_and_prints_what_it_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("make", EXAMPLES / "make.py")
    assert spec is not None and spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    package = str(Path(leanrec.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])))
    held = nbformat.read(EXAMPLES / name, as_version=4)
    lines, now = printed(held), printed(make.executed(EXAMPLES / name))
    assert any(lines)
    items = re.compile(r"\b[a-z]+(-[a-z]+)+\b")  # which items are the best may change with the processor
    assert [items.sub("item", line) for line in lines] == [items.sub("item", line) for line in now]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_outputs_are_of_a_whole_run(name: str) -> None:
    cells = [cell for cell in nbformat.read(EXAMPLES / name, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.output_type for cell in cells for output in cell.outputs} == {"stream"}


def test_there_are_three() -> None:
    assert len(NOTEBOOKS) == 3
