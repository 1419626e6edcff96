"""Time and peak memory of importing a large CSV log.

    python -m benchmarks.commands.import_log --rows 20000000 --out DIRECTORY

The log (user,item,timestamp; 300,000 users, 50,000 items of Zipf-like popularity, in time order) is generated in chunks
in a temporary folder below --out by a child process, so that the peak is that of the import alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.commands import told
from leanrec.data.importer import import_log

USERS, ITEMS, CHUNK = 300_000, 50_000, 1_000_000


def generate(path: Path, rows: int) -> None:
    """Write the log."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            frame = pl.DataFrame(
                {
                    "user": random.integers(0, min(USERS, max(2, rows // 10)), size),
                    "item": (ITEMS ** random.random(size)).astype(np.int64),
                    "timestamp": 1_500_000_000 + start + np.arange(size),
                }
            )
            frame.write_csv(file, include_header=start == 0)


def main() -> None:
    """Generate, import, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        source = Path(folder) / "log.csv"
        child = multiprocessing.get_context("spawn").Process(target=generate, args=(source, arguments.rows))
        child.start()
        child.join()
        calls = []
        started = time.perf_counter()
        store = import_log(source, Path(folder) / "store", progress=lambda *call: calls.append(call[0]))
        seconds = time.perf_counter() - started
        unit = 1 if sys.platform == "darwin" else 1024  # bytes that ru_maxrss counts in
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        figures = {"rows": store.num_events, "users": store.num_users, "items": store.num_items}
        figures |= {"file_mb": source.stat().st_size / 1e6, "seconds": seconds, "peak_mb": peak_mb}
        told(figures | {"progress_calls": len(calls), "polars": pl.__version__})


if __name__ == "__main__":
    main()
