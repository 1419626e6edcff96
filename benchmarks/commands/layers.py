"""What one more layer costs, for every backbone: counted and measured.

    python -m benchmarks.commands.layers [--width 128] [--length 200]

A shallow and a deep model of each backbone are timed in turns, everything interleaved; a layer's cost is their difference over the
layers between them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.commands import told
from leanrec.backbones import backbones
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch
from leanrec.cost.count import flops_per_user
from leanrec.cost.latency import measure

SHALLOW, DEEP = 2, 10
ITEMS = 3416
BATCHES = {"answer, 1 user": 1, "answer, 256 users": 256}
TRAINED = 32


def main() -> None:
    options = arguments()
    networks = [name for name in backbones.names() if "layers" in backbones.get(name).config.__struct_fields__]
    models = {(name, layers): built(name, layers, options) for name in networks for layers in (SHALLOW, DEEP)}
    seconds = {}
    for what, users in BATCHES.items():
        calls = {key: partial(answer, model, histories(users, options.length)) for key, model in models.items()}
        seconds[what] = timed(calls, options.seconds)
    batch = histories(TRAINED, options.length)
    calls = {key: partial(learn, model, batch) for key, model in models.items()}
    seconds[f"train, {TRAINED} windows"] = timed(calls, options.seconds)
    for name in networks:
        shallow, deep = models[name, SHALLOW], models[name, DEEP]
        row = {
            "backbone": name,
            "width": options.width,
            "length": options.length,
            "params per layer": per_layer(size(shallow), size(deep)),
            "FLOPs per layer": per_layer(flops_per_user(shallow, options.length), flops_per_user(deep, options.length)),
        }
        for what, found in seconds.items():
            row[f"ms per layer, {what}"] = round(per_layer(found[name, SHALLOW], found[name, DEEP]), 3)
        told(row, ["backbone"])


def built(name: str, layers: int, options: argparse.Namespace) -> Recommender:
    """A model with random weights."""
    entry = backbones.get(name)
    backbone = entry.build(entry.config(width=options.width, layers=layers, max_length=options.length), ITEMS)
    return Recommender(backbone, lambda model, batch, states, targets: {})


def histories(users: int, length: int) -> Batch:
    """Random full-length histories with targets."""
    items = torch.randint(1, ITEMS + 1, (users, length + 1))
    return Batch(items[:, :-1], torch.full((users,), length), items[:, 1:])


def answer(model: Recommender, batch: Batch) -> int:
    """The newest states, as when a request is answered; the head is the same for every depth."""
    model.eval()
    with torch.inference_mode():
        model.represent(batch)
    return batch.size


def learn(model: Recommender, batch: Batch) -> int:
    """Forward and backward of the encoder in bfloat16, without the loss, which is the same for every depth."""
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        states, _ = model.scored(model.backbone.examples(batch))
    states.float().sum().backward()
    return batch.size


def timed(calls: dict[tuple[str, int], Callable[[], int]], seconds: float) -> dict[tuple[str, int], float]:
    """Median milliseconds of each call, taken in turns."""
    found = measure({f"{name} {layers}": call for (name, layers), call in calls.items()}, seconds)
    return {key: found[f"{key[0]} {key[1]}"].p50_ms for key in calls}


def size(model: Recommender) -> int:
    return sum(p.numel() for p in model.parameters())


def per_layer(shallow: float, deep: float) -> float:
    return (deep - shallow) / (DEEP - SHALLOW)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="measured, for each of three kinds of batch")
    return parser.parse_args()


if __name__ == "__main__":
    main()
