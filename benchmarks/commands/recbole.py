"""Our NextItNet's training epoch against RecBole's, of the same width and depth, in turns on one machine.

    python -m benchmarks.commands.recbole --log games.txt --recbole ENV/bin/python [--rounds 2] [--seconds 60]

RecBole needs an environment of its own (recbole==1.2.1, numpy<2, pandas<3). Both train with the softmax over the whole catalogue,
unless `--set objective.name=sampled-softmax` changes ours, and with their own batch sizes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.commands import told

HERE = Path(__file__).parent


def main() -> None:
    options = arguments()
    shape = {"width": options.width, "layers": options.blocks, "max_length": options.length, "dilations": "[1,4]"}
    ours = ["--epochs", 1, "--rounds", 1, "--set", "backbone={name='nextitnet'}"]
    ours += [*(f"backbone.{field}={value}" for field, value in shape.items()), *options.set]
    theirs = ["--seconds", options.seconds, "--width", options.width, "--blocks", options.blocks]
    theirs += ["--length", options.length]
    for number in range(options.rounds):
        mine = epoch(options.log, ours)
        peer = peer_epoch(options.recbole, options.log, theirs)
        row = {
            "round": number + 1,
            "log": options.log.name,
            "width": options.width,
            "residual blocks": options.blocks,
            "our changes": " ".join(options.set),
            "our epoch, s": mine,
            "RecBole's epoch, s": peer["epoch_s"],
            "times faster": round(peer["epoch_s"] / mine, 1),
            "RecBole's steps timed": f"{peer['steps_timed']} of {peer['steps']}",
            "RecBole": peer["version"],
        }
        told(row, ["round"])


def epoch(log: Path, options: list[Any]) -> float:
    """Seconds of ours, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.commands.epoch", "--log", str(log), *map(str, options)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures = {line["metric"]: line["value"] for line in map(json.loads, printed.splitlines())}
    return figures["epoch_median_s"]


def peer_epoch(python: Path, log: Path, options: list[Any]) -> dict[str, Any]:
    """What the script that RecBole's interpreter runs prints as its last line."""
    command = [str(python), str(HERE / "recbole_epoch.py"), "--log", str(log), *map(str, options)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--recbole", type=Path, required=True, help="a Python that has RecBole")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="of RecBole's epoch, in every round")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=8, help="residual blocks of two convolutions; even")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="changes to our setting")
    return parser.parse_args()


if __name__ == "__main__":
    main()
