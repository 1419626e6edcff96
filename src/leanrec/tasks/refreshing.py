"""Bring a run up to a store that has grown: train it on what is new, and judge both models on events that neither has seen.

An epoch of a refresh has the windows with new events, and a draw of as many others as `TrainConfig.replay` says, so that what was
learned is not forgotten. The learning rate falls to zero from that of the run's own training. All that is counted or fitted (tables
of followers, routers, prices, calibration) is done anew on the grown store, as in any training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from leanrec.artifact.manifest import read_manifest
from leanrec.build import OpenRun, open_run
from leanrec.config import RunConfig, parse
from leanrec.core.errors import DataError
from leanrec.core.training_events import Counted
from leanrec.core.writing import written
from leanrec.data.newer_events import first_new
from leanrec.data.store import Store
from leanrec.tasks.evaluation import evaluate_run
from leanrec.tasks.report.refreshed import refreshed_page
from leanrec.tasks.training import run_training
from leanrec.tasks.verdict import Verdict, judged
from leanrec.train.log import CsvLog
from leanrec.train.loop import TrainConfig, Watcher

VERDICT = "refresh.json"
"""Name of the judgement in the new run."""
PAGE = "refresh.html"
"""Name of the page about it."""
REFRESH_EPOCHS = 4
"""Of a refresh."""
REPLAY = TrainConfig().replay
"""Other windows of an epoch, as a share of those with new events."""


@dataclass(frozen=True)
class Refreshed:
    """A new run and what was found about it."""

    run: OpenRun
    verdict: Verdict


def refreshing_config(
    run: Path, epochs: int = REFRESH_EPOCHS, replay: float = REPLAY, since: int | None = None
) -> RunConfig:
    """How a run is trained on: as it was, from its weights, for some epochs of what is new.

    Args:
        run: The old run.
        epochs: See `REFRESH_EPOCHS`.
        replay: See `REPLAY`.
        since: Time in the unit of the log from which events are new; by default from after the newest event of the run's store.
    """
    manifest = read_manifest(run)
    tree = parse(manifest.config).tree()
    begin = since if since is not None else manifest.trained.until + 1 if manifest.trained is not None else 0
    tree["train"] |= {"init": str(run.resolve()), "epochs": epochs, "teacher": "", "since": begin}
    tree["train"] |= {"replay": replay, "schedule": "linear", "warmup": 0, "patience": 0}
    return parse(tree)


def refresh_run(
    old: Path,
    data: Path,
    out: Path,
    epochs: int = REFRESH_EPOCHS,
    max_loss: float = 0.01,
    watcher: Watcher | None = None,
    resume: bool = False,
    replay: float = REPLAY,
    since: int | None = None,
) -> Refreshed:
    """Train a run on with a store that has grown, and judge both on each user's newest event.

    Args:
        old: The run; it stays as it is.
        data: Its store, grown.
        out: The new run, with `VERDICT` and `PAGE` in it.
        epochs: Of the training.
        max_loss: Share of the old model's NDCG@10 that may be lost.
        watcher: As in `run_training`.
        resume: Go on where it was interrupted, with the settings it was started with.
        replay: As in `refreshing_config`.
        since: As in `refreshing_config`.

    Raises:
        DataError: The store has no new events.
        LeanrecError: As in `run_training`.
    """
    before, config, store = open_run(old), refreshing_config(old, epochs, replay, since), Store.open(data)
    watcher = watcher or CsvLog(out)
    if not config.train.since:
        watcher.note(
            f"{old} does not say until when it was trained, so all events are trained on alike; --since says it"
        )
    elif not resume and not newcomers(store, config.train.since).any():
        raise DataError(
            f"expected events that are new to {old}, got none in {data}; append them with `leanrec data append`, or say --since"
        )
    run_training(config, data, out, watcher, resume, compare=False)
    after = open_run(out)
    exclude_seen = after.config.data.exclude_seen is True
    new, was = (evaluate_run(run, run.store(data), "test", exclude_seen) for run in (after, before))
    begin = after.config.train.since
    verdict = judged(str(before.path), new, was, max_loss, newcomers(store, begin), begin)
    with written(out / PAGE) as made:
        made.write_text(refreshed_page(before, after, verdict, was, new), encoding="utf-8")
    with written(out / VERDICT) as made:
        made.write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n")
    return Refreshed(after, verdict)


def newcomers(store: Store, since: int) -> np.ndarray:
    """bool [U], who has events from a time on, in the unit of the store; all users where nothing says what is new."""
    if not since or store.times is None:
        return np.ones(store.num_users, bool)
    return first_new(store, Counted(since - 1)) < store.offsets[1:]
