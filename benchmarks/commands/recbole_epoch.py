"""Seconds of a training epoch of RecBole's NextItNet. Run by an interpreter that has RecBole, see `recbole.py`.

    ENV/bin/python benchmarks/commands/recbole_epoch.py --log games.txt --seconds 60

RecBole makes a row of every prefix of a history and computes all its steps for one prediction. The whole data set is prepared by
RecBole; its own model, loss, optimiser and loader then run until the time is over, and the rate is carried over to all batches of
an epoch. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import recbole  # noqa: E402
import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402


def main() -> None:
    options = arguments()
    sys.argv = sys.argv[:1]  # RecBole reads it
    with tempfile.TemporaryDirectory() as folder:
        write(options.log, Path(folder) / "log" / "log.inter")
        os.chdir(folder)  # RecBole leaves files where it runs
        config = Config(model="NextItNet", dataset="log", config_dict=settings(options, folder))
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        batches = data_preparation(config, dataset)[0]
        model = get_model("NextItNet")(config, batches._dataset)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        model.train()
        done, spent = 0, 0.0
        started = time.perf_counter()
        for batch in batches:
            trainer.optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            trainer.optimizer.step()
            done, spent = done + 1, time.perf_counter() - started
            if spent > options.seconds:
                break
    rate = spent / done
    result = {
        "epoch_s": round(rate * len(batches), 1),
        "steps": len(batches),
        "steps_timed": done,
        "rows": len(batches._dataset),
        "params": sum(p.numel() for p in model.parameters()),
        "version": recbole.__version__,
        "torch": torch.__version__,
    }
    print(json.dumps(result))


def settings(options: argparse.Namespace, folder: str) -> dict[str, object]:
    """RecBole's defaults, except for the shape, the loss over all items and the split."""
    return {
        "data_path": folder,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": options.length,
        "embedding_size": options.width,
        "dilations": [1, 4],
        "block_num": options.blocks // 2,
        "kernel_size": 3,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
        "use_gpu": False,
        "show_progress": False,
        "checkpoint_dir": f"{folder}/saved",
    }


def write(log: Path, out: Path) -> None:
    """The log, one ``user item`` a line in time order, in RecBole's format."""
    out.parent.mkdir()
    events = [line.split()[:2] for line in log.read_text(encoding="utf-8").splitlines()]
    rows = [f"{user}\t{item}\t{at}" for at, (user, item) in enumerate(events)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    out.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=8, help="residual blocks of two convolutions; even")
    parser.add_argument("--length", type=int, default=50)
    return parser.parse_args()


if __name__ == "__main__":
    main()
