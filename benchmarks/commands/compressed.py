"""How long compressed models take, and how much memory, against the first run: interleaved, on the users of its store.

    python -m benchmarks.commands.compressed PLAIN LEAN ... [--seconds 20]

A training step (forward, backward, update) takes the same windows for every run and the run's own objective, so the first run
should be one on the full softmax. Scores are those of the whole catalogue for 128 states, in torch. Requests are whole, from
histories to ten items, and answered by ONNX exports of the runs. Memory is the peak of a process that opens an export, without
torch, and answers 100 users one by one, and then 128 together; what of it is the model's is found by comparison with an export of
the same items whose model is as small as one can be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path

import torch

from benchmarks.commands import told
from leanrec.build import OpenRun, build, open_run
from leanrec.config import parse
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch
from leanrec.cost.bench import bench
from leanrec.cost.latency import measure
from leanrec.data.batches import TrainingData
from leanrec.engine.export_runner import open_export
from leanrec.tasks.exporting import export_run
from leanrec.train.loop import BatchLimits

STATES = 128
STEPS = 16
"""Batches of windows that training steps take in turn."""
SERVE = """
import re, sys
from pathlib import Path
import numpy as np
from leanrec.engine.export_runner import open_export
engine, _ = open_export(sys.argv[1], threads=1)
histories = [np.arange(1, 2 + user % 40) for user in range(128)]
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024
for history in histories[:100]:
    engine.recommend_ids([history], 10)
single = peak()
engine.recommend_ids(histories, 10)
assert "torch" not in sys.modules
print(single, peak())
"""


def main() -> None:
    options = arguments()
    runs = {str(path): open_run(path) for path in options.runs}
    first = next(iter(runs.values()))
    store = first.store()
    split, config = first.split(store), first.config.train
    windows = TrainingData(store, split, first.model.backbone.max_length, config.window)
    limits = BatchLimits(config.batch_users, config.batch_tokens)
    batches = [windows.batch(some) for some in windows.epoch(0, 0, limits)[:STEPS]]
    requests = [store.history(user) for user in range(0, store.num_users, max(1, store.num_users // 2000))]
    with tempfile.TemporaryDirectory() as folder:
        exports = exported(runs | {"": least(first)}, Path(folder))
        engines = {name: open_export(exports[name])[0] for name in runs}
        answered = bench(engines, [1, 128], requests, 10, options.seconds)
        peaks = {name: peak_of(path) for name, path in exports.items()}
        sizes = {name: sum(file.stat().st_size for file in path.iterdir()) for name, path in exports.items()}
    states = torch.randn(STATES, first.model.items.dim)
    scored = timed({name: partial(score, run.model, states) for name, run in runs.items()}, options.seconds)
    learned = timed({name: learner(run, batches) for name, run in runs.items()}, options.seconds)
    for name, run in runs.items():
        row: dict[str, str | float] = {"run": name, "items": len(run.catalog), "params": run.manifest.cost.params}
        for entry in (entry for entry in answered.rows if entry.run == name):
            row |= {
                f"p50 ms, batch {entry.batch}": round(entry.p50_ms, 3),
                f"users/s, batch {entry.batch}": round(entry.users_per_s),
            }
        row |= {"ms to score all, 128 states": round(scored[name], 3), "ms of a training step": round(learned[name], 1)}
        row |= {"MB of the export's files": round(sizes[name] / 1e6, 2)}
        for users, peak, least_peak in zip((1, 128), peaks[name], peaks[""], strict=True):
            row |= {f"peak MB, batch {users}": round(peak, 1)}
            row |= {f"peak MB of the model, batch {users}": round(peak - least_peak, 1)}
        told(row | {"run": Path(name).name}, ["run"])


def exported(runs: dict[str, OpenRun], folder: Path) -> dict[str, Path]:
    """ONNX exports of runs."""
    paths = {name: folder / str(number) for number, name in enumerate(runs)}
    for name, run in runs.items():
        export_run(run, paths[name], "onnx")
    return paths


def least(run: OpenRun) -> OpenRun:
    """The run with a model of one block and as few channels as it can have, with random weights."""
    tree = run.config.tree() | {"technique": {}}
    tree["backbone"] |= {"width": run.model.backbone.heads, "layers": 1}
    return replace(run, model=build(parse(tree), run.catalog)[0].eval())


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


def peak_of(export: Path) -> list[float]:
    """Peak resident MB of a process that serves an export, after single requests and after one of 128 users."""
    done = subprocess.run([sys.executable, "-c", SERVE, str(export)], capture_output=True, text=True, check=True)
    return [float(part) for part in done.stdout.split()]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
