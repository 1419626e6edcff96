"""The engine's figures, one row of docs/studies/serving-and-speed.md for each command.

    python -m benchmarks.commands.engine request --export DIR --log games.txt [--peer NAME=COMMAND ...]
    python -m benchmarks.commands.engine everyone --run RUN --export DIR [--peer NAME=COMMAND ...]
    python -m benchmarks.commands.engine batch [--width 128 --layers 8 --users 256 --length 50]
    python -m benchmarks.commands.engine routes --runs FULL LEAN [FULL LEAN ...] [--budgets B ...]
    python -m benchmarks.commands.engine event [--length 200]
    python -m benchmarks.commands.engine million [--items 1000000]
    python -m benchmarks.commands.engine memory --export DIR
    python -m benchmarks.commands.engine all ...         every one of them that has what it needs

A peer is a command that prints one JSON line, with `latency_own_history: {median_ms, p99_ms}` and `score_all: {wall, user, sys}`;
it is run between two measurements of ours, and compared with the mean of both. Everything else is measured in turns. On a machine
that is shared, ``--clock cpu`` measures seconds of the processor instead of the wall's; with one thread (OMP_NUM_THREADS=1) these
are what a quiet machine would take, but for caches that others use. A request is measured by the wall in any case, as peers
measure it.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.commands import told
from benchmarks.commands.peers import beside
from leanrec.artifact.exported import WEIGHTS
from leanrec.artifact.weights import SharedWeights
from leanrec.backbones import backbones
from leanrec.build import OpenRun, open_run
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.cost.count import flops_per_user
from leanrec.cost.latency import measure
from leanrec.engine.batches import Histories
from leanrec.engine.engine import Engine
from leanrec.engine.export_runner import open_export
from leanrec.engine.memories import Memories
from leanrec.engine.torch_runner import TorchRunner
from leanrec.export.program import frozen, parts
from leanrec.export.write import write_parts
from leanrec.formats import formats
from leanrec.items.screen import Screen
from leanrec.items.topk import top_k_of

RESIDENT = """
import sys
from leanrec.engine.engine import Engine
from leanrec.engine.export_runner import open_export
engine, exported = open_export(sys.argv[1], threads=1)
keys = engine.catalog.keys
for start in range(200):
    engine.recommend([keys[start : start + 50]], 10)
assert "torch" not in sys.modules
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")][0])
"""


def main() -> None:
    options = arguments()
    for what in ROWS if options.what == "all" else [options.what]:
        lacking = [name for name in NEEDED.get(what, ()) if getattr(options, name) is None]
        if lacking and options.what == "all":
            print(f"{what}: left out, it needs --{lacking[0]}")
            continue
        asked = argparse.Namespace(**vars(options) | {"what": what})
        asked.length = options.length or (200 if what == "event" else 50)
        asked.items = options.items or (1_000_000 if what == "million" else 23_715)
        for row in ROWS[what](asked):
            told({"clock": options.clock} | row, BY[what])


def timed(options: argparse.Namespace, calls: Mapping[str, Callable[[], int]], rounds: int, warmup: int = 2) -> Any:
    """Calls measured in turns, by the clock that was asked for."""
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    return measure(calls, options.seconds, rounds, warmup, clock)


def request(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One request with its own history, from item keys to the list."""
    engine, _ = open_export(options.export, threads=1)
    histories = [h for h in read_log(options.log) if any(key in engine.keys.ids for key in h)][:500]

    def ours() -> dict[str, float]:
        turn = iter(range(10**9))

        def call() -> int:
            return len(engine.recommend([histories[next(turn) % len(histories)]], 10))

        timing = measure({"ours": call}, options.seconds, 10**6, warmup=50)["ours"]
        return {"median_ms": timing.p50_ms, "p99_ms": timing.p99_ms}

    rows = beside({"leanrec": ours}, options.peer, ("latency_own_history", "openvino_latency"), "median_ms")
    return [row | {"clock": "wall"} for row in rows]


def everyone(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All users of a store, the ten best items each, from the store to ids; seconds of the wall and of the processor."""
    run = open_run(options.run)
    store = run.store(options.data)
    histories = [np.asarray(store.history(user)) for user in range(store.num_users)]
    engines = {"export": open_export(options.export)[0]} if options.export else {}
    engines |= {precision: run.engine(precision) for precision in ("float32", "bfloat16")}

    def ours(engine: Engine) -> dict[str, float]:
        started, processor = time.perf_counter(), time.process_time()
        engine.recommend_ids(histories, 10)
        return {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - processor}

    calls = {f"leanrec, {name}": lambda engine=engine: ours(engine) for name, engine in engines.items()}
    for call in calls.values():
        call()
    return beside(calls, options.peer, ("score_all",), f"{options.clock}_s")


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
        return len(runner.best(runner.states(Histories(items, lengths), FULL), 10, None, None)[0])

    squares = {dtype: torch.ones(options.square, options.square, dtype=getattr(torch, dtype)) for dtype in runners}
    calls: dict[str, Callable[[], int]] = {"eager": eager}
    calls |= {name: lambda runner=runner: served(runner) for name, runner in runners.items()}
    calls |= {
        f"product of {name}": lambda square=square: len(torch.mm(square, square)) for name, square in squares.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        graph = exported(model, Path(folder))["encoder-full"]

        def onnx() -> int:
            return len(runners["float32"].best(torch.from_numpy(graph(items, lengths)[0]), 10, None, None)[0])

        timing = timed(options, calls | {"onnx": onnx}, 1000)
    flops = flops_per_user(model, options.length) * options.users
    peaks = {name: 2 * options.square**3 / timing[f"product of {name}"].p50_ms / 1e6 for name in squares}
    rows = []
    for name in ("eager", "float32", "onnx", "bfloat16"):
        achieved = flops / timing[name].p50_ms / 1e6
        own = peaks[name if name in peaks else "float32"]
        rows.append(
            {
                "engine": name,
                "p50_ms": round(timing[name].p50_ms, 2),
                "ratio to eager": round(timing["eager"].p50_ms / timing[name].p50_ms, 2),
                "GFLOP/s": round(achieved, 1),
                "peak GFLOP/s, same type": round(own, 1),
                "of that peak": round(achieved / own, 3),
                "of the highest peak": round(achieved / max(peaks.values()), 3),
            }
        )
    return rows


def routes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measured speed-up of lean runs against full ones, beside the counted saving of the same histories on the same routes."""
    budgets = options.budgets or [None] * (len(options.runs) // 2)
    rows = []
    for full, lean, budget in zip(options.runs[::2], options.runs[1::2], budgets, strict=True):
        whole, routed = open_run(full), open_run(lean)
        engines, store = {"full": whole.engine(), "lean": routed.engine()}, whole.store(options.data)
        chosen = np.random.default_rng(0).permutation(store.num_users)[:2048]
        histories = [np.asarray(store.history(int(user))) for user in chosen]
        for users in (1, 256):

            def calls_of(
                name: str, limit: float | None, users: int = users, engines: Any = engines, histories: Any = histories
            ) -> Callable[[], int]:
                starts = itertools.cycle(range(0, max(1, len(histories) - users + 1), users))

                def call() -> int:
                    first = next(starts)
                    return len(engines[name].recommend_ids(histories[first : first + users], 10, None, limit)[0])

                return call

            timing = timed(options, {"full": calls_of("full", None), "lean": calls_of("lean", budget)}, 10**5)
            _, _, taken = engines["lean"].recommend_ids(histories, 10, None, budget)
            lengths = [min(len(history), engines["full"].runner.max_length) for history in histories]
            saving = counted(whole, lengths, [FULL] * len(lengths)) / counted(routed, lengths, taken)
            speed_up = timing["lean"].users_per_s / timing["full"].users_per_s
            rows.append(
                {
                    "full": full.parent.name,
                    "lean": lean.name,
                    "budget": budget,
                    "users": users,
                    "full p50_ms": round(timing["full"].p50_ms, 3),
                    "lean p50_ms": round(timing["lean"].p50_ms, 3),
                    "speed-up, users": round(speed_up, 3),
                    "speed-up, p50": round(timing["full"].p50_ms / timing["lean"].p50_ms, 3),
                    "counted saving": round(saving, 3),
                    "of the counted saving": round(speed_up / saving, 3),
                }
            )
    return rows


def counted(run: OpenRun, lengths: Sequence[int], taken: Sequence[Route]) -> int:
    """FLOPs of histories of these lengths on these routes, routing and head included."""
    kinds = Counter(zip(lengths, taken, strict=True))
    return sum(
        (run.flops.request(length, route) + run.flops.routing(length)) * count
        for (length, route), count in kinds.items()
    )


def event(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One more event after a long history, against the whole history again: all of its steps in eager torch, and only what the
    newest step depends on in ONNX Runtime. Reading and writing the memories is part of a step; the top-k is left out of all.
    """
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
                bursts = {what: lambda call=call: sum(call() for _ in range(BURST)) for what, call in calls.items()}
                timing = timed(options, bursts, 2000)
                took = {what: found.p50_ms / BURST for what, found in timing.items()}
                rows.append(
                    {"backbone": name, "width": width, "layers": layers, "length": options.length, "users": users}
                    | {f"{what}, ms": round(value, 4) for what, value in took.items()}
                    | {
                        "times the whole history, eager": round(took["eager, all steps"] / took["onnx step"], 1),
                        "times the whole history, exact savings, onnx": round(
                            took["onnx, newest step"] / took["onnx step"], 1
                        ),
                    }
                )
    return rows


def million(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The ten best of a million items, exact in every stored type, against reading the table once."""
    from leanrec.engine.scoring import best_columns

    rng = np.random.default_rng(0)
    table = rng.standard_normal((options.items + 1, 64), np.float32) @ np.diag(rng.uniform(0.2, 1, 64)).astype(
        np.float32
    )
    states = rng.standard_normal((16, 64), np.float32)
    tensor, turn = torch.from_numpy(table), iter(range(10**9))
    screen = Screen(tensor)

    def next_state() -> np.ndarray:
        return states[next(turn) % len(states)][None]

    def nothing(scores: np.ndarray, places: slice) -> None:
        if not places.start:
            scores[:, 0] = -np.inf

    def product(states: np.ndarray, places: slice, out: np.ndarray) -> None:
        np.matmul(states, table[places].T, out=out)

    def exact() -> int:
        return len(best_columns(product, next_state(), len(table), 10, nothing)[0])

    calls: dict[str, Callable[[], int]] = {
        "read once": lambda: int(table.view(np.int32).max() > 0),
        "float32, numpy": exact,
        "float32, torch": lambda: len(top_k_of(torch.from_numpy(next_state()), tensor, 10)[0]),
        "int8 screen, float32 again": lambda: len(screen.top_k(torch.from_numpy(next_state()), 10)[0]),
    }
    timing = timed(options, calls, 200)
    expected = top_k_of(torch.from_numpy(states), tensor, 10)[0].numpy()
    answers = {"int8 screen, float32 again": screen.top_k(torch.from_numpy(states), 10)[0].numpy()}
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
    return [{"export": options.export.name, "resident MB": round(int(done.stdout.split()[-1]) * 1024 / 1e6, 1)}]


BURST = 8
"""Equal calls in a row, so that a call of microseconds is not measured with the caches of one of milliseconds."""
NEEDED = {
    "request": ("export", "log"),
    "everyone": ("run",),
    "routes": ("runs",),
    "memory": ("export",),
}
"""Options that a command cannot do without."""
ROWS = {
    "request": request,
    "everyone": everyone,
    "batch": batch,
    "routes": routes,
    "event": event,
    "million": million,
    "memory": memory,
}


BY = {
    "request": ("who", "beside"),
    "everyone": ("who", "beside"),
    "batch": ("engine",),
    "routes": ("full", "lean", "users"),
    "event": ("backbone", "width", "layers", "users"),
    "million": ("how",),
    "memory": (),
}
"""What tells the rows of a command apart."""


def built(name: str, width: int, layers: int, length: int, items: int) -> Recommender:
    """A model with random weights."""
    torch.manual_seed(0)
    entry = backbones.get(name)
    backbone = entry.build(entry.config(width=width, layers=layers, max_length=length), items)
    return frozen(Recommender(backbone, lambda model, batch, states, targets: {}))


def exported(model: Recommender, folder: Path, sessions: bool = False) -> dict[str, Callable[..., Any]]:
    """The graphs of a model, by name, run by ONNX Runtime."""
    weights, form = SharedWeights(), formats.get("onnx").build()
    written = write_parts(model, parts(model, sessions), folder, form, weights)
    places = weights.save(folder / WEIGHTS)
    for finish in written.values():
        finish(places)
    open_part = form.open(folder)
    return {part.name: open_part(f"{part.name}.{form.ending}") for part in written}


def read_log(path: Path) -> list[list[str]]:
    """Histories of a file of `user item` lines, without each user's last event."""
    users: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        user, item = line.split()[:2]
        users.setdefault(user, []).append(item)
    return [items[:-1] for items in users.values() if len(items) > 2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*ROWS, "all"])
    parser.add_argument("--export", type=Path, help="what `leanrec export` wrote")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--runs", type=Path, nargs="+", help="pairs of a full and a lean run")
    parser.add_argument("--data", type=Path, help="the store, if it is no longer where the run was trained")
    parser.add_argument("--log", type=Path, help="a file of `user item` lines")
    parser.add_argument("--peer", action="append", default=[], help="NAME=COMMAND, a driver that prints one JSON line")
    parser.add_argument("--budgets", type=float, nargs="+", help="one for each pair of runs")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--square", type=int, default=2048, help="rows of the products that peaks are measured on")
    parser.add_argument("--seconds", type=float, default=10.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
