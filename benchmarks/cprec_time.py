"""How long compressed models take, and how much memory, against the first run: interleaved, on the users of its store.

    python benchmarks/cprec_time.py PLAIN LEAN ... [--seconds 20] [--out time.csv]

A training step (forward, backward, update) takes the same windows for every run and the run's own objective, so the first run
should be one on the full softmax. Scores are those of the whole catalogue for 128 states. Requests are whole, from histories to ten
items. Memory is the peak of a process of its own that opens the run and answers 100 users, over one that opens nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

import torch

from leanrec.build import OpenRun, open_run
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch
from leanrec.cost.bench import bench
from leanrec.cost.latency import measure
from leanrec.cost.machine import machine
from leanrec.data.batches import TrainingData
from leanrec.train.loop import Limits
from rows import append

STATES = 128
STEPS = 16
"""Batches of windows that training steps take in turn."""
SERVE = """
import re, sys
from pathlib import Path
from leanrec.build import open_run
import numpy as np
if len(sys.argv) > 1:
    run = open_run(Path(sys.argv[1]))
    for user in range(100):
        run.engine.recommend_ids([np.arange(1, 2 + user % 40)], 10)
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024)
"""


def main() -> None:
    options = arguments()
    runs = {str(path): open_run(path) for path in options.runs}
    first = next(iter(runs.values()))
    store = first.store()
    split, config = first.split(store), first.config.train
    windows = TrainingData(store, split, first.model.backbone.max_length, config.window)
    limits = Limits(config.batch_users, config.batch_tokens)
    batches = [windows.batch(some) for some in windows.epoch(0, 0, limits)[:STEPS]]
    requests = [store.history(user) for user in range(0, store.num_users, max(1, store.num_users // 2000))]
    answered = bench({name: run.engine for name, run in runs.items()}, [1, 128], requests, 10, options.seconds)
    states = torch.randn(STATES, first.model.items.dim)
    scored = timed({name: partial(score, run.model, states) for name, run in runs.items()}, options.seconds)
    learned = timed({name: learner(run, batches) for name, run in runs.items()}, options.seconds)
    empty = peak()
    for name, run in runs.items():
        row: dict[str, str | float] = {"run": name, "items": len(run.catalog), "params": run.manifest.cost.params}
        for entry in (entry for entry in answered.rows if entry.run == name):
            row |= {
                f"p50 ms, batch {entry.batch}": round(entry.p50_ms, 3),
                f"users/s, batch {entry.batch}": round(entry.users_per_s),
            }
        row |= {"ms to score all, 128 states": round(scored[name], 3), "ms of a training step": round(learned[name], 1)}
        append(options.out, row | {"MB over an empty process": round(peak(name) - empty, 1)} | machine())


def timed(calls: dict[str, Callable[[], int]], seconds: float) -> dict[str, float]:
    """Median milliseconds of every call."""
    return {name: timing.p50_ms for name, timing in measure(calls, seconds).items()}


@torch.inference_mode()
def score(model: Recommender, states: torch.Tensor) -> int:
    return len(model.items.score(states))


def learner(run: OpenRun, batches: list[Batch]) -> Callable[[], int]:
    """Steps of training on the batches in turn, in the precisions the run was trained in."""
    model, train = run.model, run.config.train
    model.items.loss_dtype = getattr(torch, train.loss_precision)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-6, fused=True)
    endless = cycle(batches)

    def step() -> int:
        batch = next(endless)
        with torch.autocast("cpu", torch.bfloat16, enabled=train.encoder_precision == "bfloat16"):
            loss = torch.stack(list(model.loss(batch).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return batch.size

    return step


def peak(*run: str) -> float:
    """Peak resident MB of a process that serves a run, or opens none."""
    done = subprocess.run([sys.executable, "-c", SERVE, *run], capture_output=True, text=True, check=True)
    return float(done.stdout)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
