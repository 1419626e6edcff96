"""Time and peak memory of counting which item follows which, as memory does before the first step.

    python -m benchmarks.commands.counting --events 1000000 10000000

Events are made up part by part, as a store is read (100,000 items of Zipf-like popularity, 10 events a user), and never held.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.commands import told
from leanrec.core.followers import Pairs, add_followers, no_counts
from leanrec.core.training_events import EventsPart, TrainingEvents

ITEMS, ROWS, EACH, AT_ONCE = 100_000, 32, 10, 2**22


class MadeUp(TrainingEvents):
    """The same events in every pass."""

    def __init__(self, events: int) -> None:
        self.num_items, self.num_events, self.newest = ITEMS, events, None

    def parts(self) -> Iterator[EventsPart]:
        for start in range(0, self.num_events, AT_ONCE):
            size = min(AT_ONCE, self.num_events - start)
            random = np.random.default_rng(start)
            items = (ITEMS ** random.random(size, np.float32)).astype(np.int32).clip(1, ITEMS)
            yield EventsPart(items, np.arange(start, start + size) // EACH, None)


def main() -> None:
    """Count, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000])
    unit = 1 if sys.platform == "darwin" else 1024  # bytes that ru_maxrss counts in
    for events in parser.parse_args().events:
        counts, started = no_counts(ITEMS, ROWS), time.perf_counter()
        add_followers(counts, MadeUp(events), Pairs(5, 0.3))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        told({"events": events, "seconds": time.perf_counter() - started, "peak_mb": peak})


if __name__ == "__main__":
    main()
