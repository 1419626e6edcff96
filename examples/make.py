"""Run the notebooks of this folder and keep what they print: ``python examples/make.py [NAME ...]``.

Needs the group "notebooks".
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def executed(notebook: Path) -> nbformat.NotebookNode:
    """The notebook after all of its cells have run, in a folder of its own."""
    found = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(found, timeout=600, resources={"metadata": {"path": folder}}, record_timing=False).execute()
    found.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    return found


def main() -> None:
    """Run those that are named, or all."""
    for name in sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.ipynb")):
        path = HERE / f"{name}.ipynb"
        nbformat.write(executed(path), path)


if __name__ == "__main__":
    main()
