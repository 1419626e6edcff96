"""One training command, several times, beside busy processes: is it one model?

    python -m benchmarks.commands.repeat DATA [--times 5] [--busy 2] [-- --backbone nextitnet backbone.width=64 train.epochs=1]

The exit status is 1 if the weights differ.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.commands import split_arguments, told
from benchmarks.commands.load import busy

USUAL = ["--backbone", "sasrec", "train.epochs=1"]


def main() -> int:
    options, settings = arguments()
    sums: list[str] = []
    with busy(options.busy), tempfile.TemporaryDirectory() as folder:
        for number in range(options.times):
            run = Path(folder) / str(number)
            command = [sys.executable, "-m", "leanrec", "train", options.data, *(settings or USUAL)]
            subprocess.run([*command, "--out", str(run)], check=True, stdout=subprocess.DEVNULL)
            sums.append(hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest())
    told({"runs": options.times, "busy": options.busy, "models": len(set(sums)), "sha256": " ".join(sorted(set(sums)))})
    return int(len(set(sums)) != 1)


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Options, and settings of the training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--busy", type=int, default=2)
    return split_arguments(parser)


if __name__ == "__main__":
    sys.exit(main())
