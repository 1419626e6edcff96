"""Rows of a CSV file that grows as figures come in."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any


def append(path: Path | None, row: dict[str, Any]) -> None:
    """Print a row, and add it to a CSV, with its header if the file is new; columns that the row lacks stay empty."""
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        columns = next(csv.reader(file), None)
        writer = csv.DictWriter(file, columns or list(row))
        if columns is None:
            writer.writeheader()
        writer.writerow(row)
