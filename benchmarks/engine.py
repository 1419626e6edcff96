"""The engine's figures, one row of the table in docs/guide/serving.md for each command.

    python benchmarks/engine.py request --export DIR --log games.txt [--peer NAME=COMMAND ...] [--out engine.csv]
    python benchmarks/engine.py everyone --run RUN --export DIR [--peer NAME=COMMAND ...]
    python benchmarks/engine.py batch [--width 128 --layers 8 --users 256 --length 50]
    python benchmarks/engine.py routes --runs FULL LEAN [--budget B]
    python benchmarks/engine.py event [--length 200]
    python benchmarks/engine.py million [--items 1000000] [--index]
    python benchmarks/engine.py memory --export DIR

A peer is a command that prints one JSON line, as the drivers of `--peer` do; it is run between two measurements of ours, and the
ratio is to the mean of both. Everything else is measured in turns. One CSV row for each thing measured.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leanrec import tasks
from leanrec.backbones import backbones
from leanrec.build import open_run
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch
from leanrec.cost.count import flops_per_user
from leanrec.cost.latency import measure
from leanrec.cost.machine import machine
from leanrec.export.onnx import converted, save
from leanrec.export.program import frozen, parts, traced
from leanrec.export.weights import Weights
from leanrec.nn.screen import Screen
from leanrec.nn.topk import top_k_of
from leanrec.serve.export_runner import cores, open_export
from leanrec.serve.memories import Memories
from leanrec.serve.parts import opener
from leanrec.serve.torch_runner import TorchRunner
from rows import append

RESIDENT = """
import sys
from leanrec.serve.export_runner import open_export
engine, exported = open_export(sys.argv[1], threads=1)
keys = engine.catalog.keys
for start in range(200):
    engine.recommend([keys[start : start + 50]], 10)
assert "torch" not in sys.modules
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")][0])
"""


def main() -> None:
    options = arguments()
    for row in ROWS[options.what](options):
        append(options.out, {"what": options.what} | row | machine())


def request(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One request with its own history, from item keys to the list."""
    engine, _ = open_export(options.export, threads=1)
    histories = [h for h in read_log(options.log) if any(key in engine.keys.ids for key in h)][:500]

    def ours() -> dict[str, float]:
        turn = iter(range(10**9))

        def call() -> int:
            return len(engine.recommend([histories[next(turn) % len(histories)]], 10))

        timing = measure({"ours": call}, options.seconds, 10**6, warmup=50)["ours"]
        return {"p50_ms": timing.p50_ms, "p99_ms": timing.p99_ms}

    return beside(ours, options.peer, ("latency_own_history", "openvino_latency"), "p50_ms", "median_ms")


def everyone(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All users of a store, the ten best items each, from the store to ids."""
    found = [tasks.open_answering(path) for path in (options.run, options.export) if path]
    store = found[0].store(options.data)
    histories = [store.history(user) for user in range(store.num_users)]
    result = []
    for answering in found:

        def ours(engine: Any = answering.engine) -> dict[str, float]:
            started = time.perf_counter()
            order = np.argsort([len(history) for history in histories], kind="stable")
            for at in range(0, len(order), 1024):
                engine.recommend_ids([histories[user] for user in order[at : at + 1024]], 10)
            return {"seconds": time.perf_counter() - started}

        ours()
        rows = beside(ours, options.peer, ("score_all",), "seconds", "wall")
        result += [row | {"engine": str(answering.path)} for row in rows]
    return result


def batch(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A large batch of full histories on a deep model: encoder and top-k against eager float32 of all steps."""
    model = built("sasrec", options.width, options.layers, options.length, options.items)
    items = np.random.default_rng(0).integers(1, options.items + 1, (options.users, options.length))
    lengths = np.full(options.users, options.length)
    runners = {name: TorchRunner(model, name) for name in ("float32", "bfloat16")}
    inputs = Batch(torch.from_numpy(items), torch.from_numpy(lengths))

    @torch.inference_mode()
    def eager() -> int:
        states = model.backbone.encode(inputs).states[:, -1]
        return len(model.items.score(states).topk(10).indices)

    def served(runner: TorchRunner) -> int:
        return len(runner.best(runner.states(items, lengths, FULL), 10, None, None)[0])

    calls: dict[str, Callable[[], int]] = {"eager": eager}
    calls |= {name: lambda runner=runner: served(runner) for name, runner in runners.items()}
    with tempfile.TemporaryDirectory() as folder:
        graph = exported(model, Path(folder))["encoder-full"]
        scorer = TorchRunner(model)

        def onnx() -> int:
            return len(scorer.best(torch.from_numpy(graph(items, lengths)[0]), 10, None, None)[0])

        timing = measure(calls | {"onnx": onnx}, options.seconds, 1000)
    flops = flops_per_user(model, options.length) * options.users
    peak = peak_gflops()
    return [
        {
            "engine": name,
            "p50_ms": round(found.p50_ms, 2),
            "ratio to eager": round(timing["eager"].p50_ms / found.p50_ms, 2),
            "GFLOP/s": round(flops / found.p50_ms / 1e6, 1),
            "peak GFLOP/s": round(peak, 1),
        }
        for name, found in timing.items()
    ]


def routes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measured speed-up of lean runs against the first, beside the counted saving."""
    runs = [open_run(path) for path in options.runs]
    store = runs[0].store(options.data)
    result = tasks.run_bench(
        [tasks.open_answering(path) for path in options.runs],
        options.data,
        [1, 256],
        options.seconds,
        10,
        options.budget,
    )
    counted = {
        str(run.path): tasks.evaluate_run(run, store, "test", budget=options.budget if index else None).flops_ratio
        for index, run in enumerate(runs)
    }
    return [
        {
            "run": ratio.run,
            "users": ratio.batch,
            "speed-up, p50": round(ratio.p50, 3),
            "speed-up, users": round(ratio.users_per_s, 3),
            "counted saving": round(1 / counted[ratio.run], 3),
        }
        for ratio in result.ratios
    ]


def event(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One more event after a long history, against the whole history again; torch and ONNX Runtime."""
    rows = []
    for name, width, layers in (("sasrec", 64, 2), ("sasrec", 128, 8), ("nextitnet", 64, 4), ("gru4rec", 64, 2)):
        model = built(name, width, layers, options.length + 1, 1000)
        runner = TorchRunner(model)
        with tempfile.TemporaryDirectory() as folder:
            graphs = exported(model, Path(folder), sessions=True)
            for users in (1, 32):
                items = np.random.default_rng(0).integers(1, 1001, (users, options.length + 1))
                lengths, at = np.full(users, options.length + 1), np.full(users, options.length)
                layout = runner.layout(FULL)
                assert layout is not None
                memories = Memories(layout, users, width)
                newest, whole = items[:, -1].copy(), Batch(torch.from_numpy(items), torch.from_numpy(lengths))

                @torch.inference_mode()
                def eager(model: Recommender = model, whole: Batch = whole) -> int:
                    return len(model.backbone.encode(whole).states)

                def torch_step(
                    newest: Any = newest, at: Any = at, memories: Any = memories, runner: TorchRunner = runner
                ) -> int:
                    states, rows = runner.step(newest, at, memories.read(at), FULL)
                    memories.write(at, rows)
                    return len(states)

                def anew(graphs: Any = graphs, items: Any = items, lengths: Any = lengths) -> int:
                    return len(graphs["encoder-full"](items, lengths)[0])

                def step(graphs: Any = graphs, newest: Any = newest, at: Any = at, memories: Any = memories) -> int:
                    states, rows = graphs["step-full"](newest, at, *memories.read(at))
                    memories.write(at, rows)
                    return len(states)

                calls = {
                    "eager, all steps": eager,
                    "torch step": torch_step,
                    "onnx, newest step": anew,
                    "onnx step": step,
                }
                timing = measure(calls, options.seconds, 2000)
                shape = {"backbone": name, "width": width, "layers": layers, "length": options.length, "users": users}
                rows.append(
                    shape
                    | {f"{what}, ms": round(found.p50_ms, 4) for what, found in timing.items()}
                    | {
                        "ratio to eager": round(timing["eager, all steps"].p50_ms / timing["onnx step"].p50_ms, 1),
                        "ratio to onnx": round(timing["onnx, newest step"].p50_ms / timing["onnx step"].p50_ms, 1),
                    }
                )
    return rows


def million(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The ten best of a million items: exact in every stored type, against reading the table once; an index with its recall."""
    from leanrec.serve.index import Index
    from leanrec.serve.scoring import best_columns

    rng = np.random.default_rng(0)
    table = rng.standard_normal((options.items + 1, 64), np.float32) @ np.diag(rng.uniform(0.2, 1, 64)).astype(
        np.float32
    )
    states = rng.standard_normal((16, 64), np.float32)
    tensor, turn = torch.from_numpy(table), iter(range(10**9))
    screen, index = Screen(tensor), Index(table) if options.index else None

    def next_state() -> np.ndarray:
        return states[next(turn) % len(states)][None]

    def nothing(scores: np.ndarray, rows: slice) -> None:
        scores[:, 0] = -np.inf

    def product(states: np.ndarray, out: np.ndarray) -> None:
        np.matmul(states, table.T, out=out)

    def exact() -> int:
        return len(best_columns(product, next_state(), len(table), 10, nothing)[0])

    calls: dict[str, Callable[[], int]] = {
        "read once": lambda: int(table.view(np.int32).max() > 0),
        "float32, numpy": exact,
        "float32, torch": lambda: len(top_k_of(torch.from_numpy(next_state()), tensor, 10)[0]),
        "int8 screen, float32 again": lambda: len(screen.top_k(torch.from_numpy(next_state()), 10)[0]),
    }
    if index is not None:
        calls["index"] = lambda: len(index.top_k(next_state(), 10)[0])
    timing = measure(calls, options.seconds, 200)
    expected = top_k_of(torch.from_numpy(states), tensor, 10)[0].numpy()
    answers = {
        "int8 screen, float32 again": screen.top_k(torch.from_numpy(states), 10)[0].numpy(),
    }
    if index is not None:
        answers["index"] = index.top_k(states, 10)[0]
    recall = {
        name: float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(found.tolist(), expected.tolist(), strict=True)]))
        for name, found in answers.items()
    }
    return [
        {
            "how": name,
            "items": options.items,
            "p50_ms": round(found.p50_ms, 3),
            "times reading the table": round(found.p50_ms / timing["read once"].p50_ms, 2),
            "recall@10": round(recall.get(name, 1.0), 4),
        }
        for name, found in timing.items()
    ]


def memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Resident memory of a process that serves an export without torch."""
    command = [sys.executable, "-c", RESIDENT, str(options.export)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [{"export": str(options.export), "resident MB": round(int(done.stdout.split()[-1]) * 1024 / 1e6, 1)}]


ROWS = {
    "request": request,
    "everyone": everyone,
    "batch": batch,
    "routes": routes,
    "event": event,
    "million": million,
    "memory": memory,
}


def beside(
    ours: Callable[[], dict[str, float]], peers: list[str], fields: tuple[str, ...], mine: str, theirs: str
) -> list[dict[str, Any]]:
    """Our figure, and each peer's between two of ours."""
    rows = [{"who": "leanrec"} | {name: round(value, 4) for name, value in ours().items()} | {"ratio": 1.0}]
    for peer in peers:
        name, command = peer.split("=", 1)
        before = ours()[mine]
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        value = next(found[field][theirs] for field in fields if field in found)
        row = {"who": name} | dict.fromkeys(rows[0].keys() - {"who", "ratio"}, "")
        rows.append(row | {mine: value, "ratio": round(value / ((before + ours()[mine]) / 2), 2)})
    return [{key: row[key] for key in rows[0]} for row in rows]


def built(name: str, width: int, layers: int, length: int, items: int) -> Recommender:
    """A model with random weights."""
    torch.manual_seed(0)
    entry = backbones.get(name)
    backbone = entry.build(entry.config(width=width, layers=layers, max_length=length), items)
    return frozen(Recommender(backbone, lambda items, states, targets: {}))


def exported(model: Recommender, folder: Path, sessions: bool = False) -> dict[str, Callable[..., Any]]:
    """The graphs of a model, by name, run by ONNX Runtime."""
    weights, protos = Weights(), {}
    for part in parts(model, sessions):
        protos[part.name] = converted(part, traced(part, model), weights)
    places = weights.save(folder / "weights.safetensors")
    open_part = opener(folder, "onnx", cores())
    for name, proto in protos.items():
        save(proto, folder / f"{name}.onnx", places)
    return {name: open_part(f"{name}.onnx") for name in protos}


def peak_gflops() -> float:
    """The best of a few large bfloat16 and float32 products."""
    best = 0.0
    for dtype in (torch.float32, torch.bfloat16):
        square = torch.ones(2048, 2048, dtype=dtype)
        for _ in range(6):
            started = time.perf_counter()
            torch.mm(square, square)
            best = max(best, 2 * 2048**3 / (time.perf_counter() - started) / 1e9)
    return best


def read_log(path: Path) -> list[list[str]]:
    """Histories of a file of `user item` lines, without each user's last event."""
    users: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        user, item = line.split()[:2]
        users.setdefault(user, []).append(item)
    return [items[:-1] for items in users.values() if len(items) > 2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=ROWS)
    parser.add_argument("--export", type=Path, help="what `leanrec export` wrote")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, help="the store, if it is no longer where the run was trained")
    parser.add_argument("--log", type=Path, help="a file of `user item` lines")
    parser.add_argument("--peer", action="append", default=[], help="NAME=COMMAND, a driver that prints one JSON line")
    parser.add_argument("--budget", type=float)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--index", action="store_true", help="with an index, whose building takes minutes")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, help="CSV to append to; one file for each kind of row")
    options = parser.parse_args()
    options.length = options.length or (200 if options.what == "event" else 50)
    options.items = options.items or (1_000_000 if options.what == "million" else 23_715)
    return options


if __name__ == "__main__":
    main()
