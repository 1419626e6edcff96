"""Our NextItNet's training epoch against RecBole's, of the same width and depth, in turns on one machine.

    python benchmarks/against_recbole.py --log games.txt --recbole ENV/bin/python [--rounds 2] [--seconds 60]

RecBole needs an environment of its own (recbole==1.2.1, numpy<2, pandas<3). Both train with the softmax over the whole catalogue,
unless `--set objective.name=sampled-softmax` changes ours, and with their own batch sizes. Prints one CSV row per round; `--out`
also appends them to a file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from leanrec.cost.machine import machine
from rows import append

HERE = Path(__file__).parent


def main() -> None:
    options = arguments()
    shape = {"width": options.width, "layers": options.blocks, "max_length": options.length, "dilations": "[1,4]"}
    ours = ["--epochs", 1, "--rounds", 1, "--set", "backbone={name='nextitnet'}"]
    ours += [*(f"backbone.{field}={value}" for field, value in shape.items()), *options.set]
    theirs = ["--seconds", options.seconds, "--width", options.width, "--blocks", options.blocks]
    theirs += ["--length", options.length]
    for number in range(options.rounds):
        mine = measured(sys.executable, "epoch.py", options.log, ours)
        peer = measured(options.recbole, "recbole_epoch.py", options.log, theirs)
        row = {
            "round": number + 1,
            "log": options.log.name,
            "width": options.width,
            "residual blocks": options.blocks,
            "our objective": mine["objective"],
            "our epoch, s": mine["epoch_median_s"],
            "RecBole's epoch, s": peer["epoch_s"],
            "times faster": round(peer["epoch_s"] / mine["epoch_median_s"], 1),
            "RecBole's steps timed": f"{peer['steps_timed']} of {peer['steps']}",
            "RecBole": peer["version"],
        }
        append(options.out, row | machine())


def measured(python: str | Path, script: str, log: Path, options: list[Any]) -> dict[str, Any]:
    """The JSON line of a script."""
    command = [str(python), str(HERE / script), "--log", str(log), *map(str, options)]
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
    parser.add_argument("--out", type=Path, help="CSV to append to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
