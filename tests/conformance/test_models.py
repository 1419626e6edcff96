"""What every trained model promises: each backbone alone, and each technique on each backbone it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conformance.settings import BACKBONES, NETWORKS, TECHNIQUES, changed, shape, taught
from leanrec import build as composition
from leanrec.backbones import backbones
from leanrec.config import Choice, DataConfig, RunConfig
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.tied import restored, stored
from leanrec.core.types import Batch
from leanrec.data.batches import BatchLimits, TrainingData, ask, questions, targets
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.data.training_log import TrainingLog
from leanrec.evaluate.metrics import summarise
from leanrec.evaluate.rank import rank
from leanrec.objectives.softmax import Softmax
from leanrec.tasks.training import held_out
from leanrec.techniques import techniques
from leanrec.train import checkpoint
from leanrec.train.loop import TrainConfig, train_stages
from toys import catalog, chain_store, random_batch, randomise, same, scores_by_route

ITEMS = 40


def fits(technique: str, backbone: str) -> bool:
    built = techniques.get(technique).build(TECHNIQUES[technique].config)
    model = backbones.get(backbone).build(shape(backbone, [technique]), ITEMS)
    return built.needs <= model.supports


PAIRS = [(name, ()) for name in BACKBONES] + [
    (backbone, (technique,)) for technique in TECHNIQUES for backbone in BACKBONES if fits(technique, backbone)
]


def usual(pairs: Sequence[tuple[str, tuple[str, ...]]]) -> dict[tuple[str, ...], str]:
    """For every technique one backbone that it fits; the next technique takes another one where it can."""
    taken: dict[tuple[str, ...], str] = {}
    for technique in TECHNIQUES:
        fitting = [backbone for backbone, chosen in pairs if chosen == (technique,)]
        taken[(technique,)] = next((name for name in fitting if name not in taken.values()), fitting[0])
    return taken


USUAL = usual(PAIRS)


def over_models(dear: bool = False) -> pytest.MarkDecorator:
    """Try every model. What is ``dear`` tries backbones alone and every technique once; the other pairs are slow tests."""
    pairs = [
        pytest.param(
            backbone,
            chosen,
            id=f"{backbone}-{'+'.join(chosen)}",
            marks=[pytest.mark.slow] if dear and chosen and USUAL[chosen] != backbone else [],
        )
        for backbone, chosen in PAIRS
    ]
    return pytest.mark.parametrize(("backbone", "chosen"), pairs)


models, dear_models = over_models(), over_models(dear=True)


def make(
    backbone: str,
    chosen: Sequence[str],
    items: int = ITEMS,
    found: dict[str, Any] | None = None,
    **config: int | float,
) -> tuple[Recommender, tuple[Stage, ...]]:
    run = RunConfig(
        Choice(backbone, changed(shape(backbone, chosen), **(found or {}))),
        Choice("softmax", Softmax()),
        tuple(Choice(name, TECHNIQUES[name].config) for name in chosen),
        TrainConfig(**config),  # pyright: ignore[reportArgumentType]
        DataConfig(),
    )
    model, stages = composition.build(run, catalog(items))
    return taught(model, catalog(items)), stages


def ready(backbone: str, chosen: Sequence[str]) -> Recommender:
    model = make(backbone, chosen)[0]
    randomise(model)
    return model.eval()


def scores(model: Recommender, batch: Batch) -> Tensor:
    """As in use: every user on its own route."""
    return scores_by_route(model, batch, model.routes(batch))


@models
def test_loss_terms_are_named_finite_scalars(backbone: str, chosen: Sequence[str]) -> None:
    model = ready(backbone, chosen).train()
    terms = model.loss(random_batch(ITEMS, [1, 4, 10]))
    assert terms
    for name, term in terms.items():
        assert term.shape == () and term.dtype == torch.float32 and term.isfinite(), name
    assert sum(terms.values()).requires_grad


@models
def test_routes_are_known_and_runnable(backbone: str, chosen: Sequence[str]) -> None:
    model = ready(backbone, chosen)
    taken = model.routes(random_batch(ITEMS, [1, 4, 10]))
    assert len(taken) == 3
    for route in {*taken, *model.all_routes()}:
        model.check(route)


@models
def test_a_user_does_not_depend_on_its_neighbours(backbone: str, chosen: Sequence[str]) -> None:
    model = ready(backbone, chosen)
    first, other = random_batch(ITEMS, [4, 10, 7, 1]), random_batch(ITEMS, [10, 10, 2, 9])
    for row in range(first.size):
        items, lengths = other.items.clone(), other.lengths.clone()
        items[row], lengths[row] = first.items[row], first.lengths[row]
        mixed = Batch(items, lengths)
        assert model.routes(mixed)[row] == model.routes(first)[row]
        torch.testing.assert_close(scores(model, mixed)[row], scores(model, first)[row], atol=1e-5, rtol=0)
        alone = first.rows(torch.tensor([row]))
        torch.testing.assert_close(scores(model, alone)[0], scores(model, first)[row], atol=1e-5, rtol=0)


@models
def test_no_noise_in_eval(backbone: str, chosen: Sequence[str]) -> None:
    model = ready(backbone, chosen)
    batch = random_batch(ITEMS, [4, 10, 7, 1])
    first, taken = scores(model, batch), model.routes(batch)
    torch.manual_seed(99)
    assert torch.equal(scores(model, batch), first)
    assert model.routes(batch) == taken


@models
def test_saved_and_loaded_it_scores_the_same(backbone: str, chosen: Sequence[str], tmp_path: Path) -> None:
    model = ready(backbone, chosen)
    save_file(stored(model), tmp_path / "model.safetensors")
    other = make(backbone, chosen, seed=7)[0].eval()
    batch = random_batch(ITEMS, [4, 10, 7, 1])
    assert not torch.equal(scores(other, batch), scores(model, batch))
    other.load_state_dict(restored(other, load_file(tmp_path / "model.safetensors")))
    assert torch.equal(scores(other, batch), scores(model, batch))


@dataclass
class Stop:
    """Interrupts training after some steps."""

    steps: int

    def start(self, stage: Stage, steps: int, progress: checkpoint.Progress) -> None:
        pass

    def step(self, progress: checkpoint.Progress) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise KeyboardInterrupt

    def epoch(self, progress: checkpoint.Progress) -> None:
        pass


NEVER = -1


def fit(
    backbone: str,
    chosen: Sequence[str],
    store: Store,
    out: Path,
    stop: int = NEVER,
    resume: bool = False,
    **config: int | float,
) -> tuple[Recommender, checkpoint.Progress]:
    """Train as a run does."""
    path = out / checkpoint.CHECKPOINT_FILE
    found = checkpoint.started(path)[1] if resume and path.exists() else None
    model, stages = make(backbone, chosen, store.num_items, found, **config)
    split = Split.leave_one_out(store)
    settings = TrainConfig(loss_precision="float32", encoder_precision="float32", **config)  # pyright: ignore[reportArgumentType]
    windows = TrainingData(store, split, model.backbone.max_length)
    out.mkdir(exist_ok=True)
    if not path.exists():
        model.count(TrainingLog(store, split))
    progress = train_stages(
        model, stages, windows, settings, out, lambda m: quality(m, store, "valid"), Stop(stop), resume
    )
    model.calibrate(held_out(model, store, split))
    return model, progress


def quality(model: Recommender, store: Store, part: str) -> dict[str, float]:
    asked = questions(store, Split.leave_one_out(store), part)  # pyright: ignore[reportArgumentType]
    batches = ask(store, asked, model.backbone.max_length, BatchLimits(64, 2048))
    return summarise(rank(model, batches, targets(store, asked)).ranks)


def without_times(history: list[dict[str, int | float]]) -> list[dict[str, int | float]]:
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in history]


EVERYTHING = {
    "epochs": 3,
    "patience": 0,
    "plateau": 1,
    "warmup": 5,
    "weight_decay": 0.1,
    "clip": 1.0,
    "seed": 3,
    "batch_users": 16,
}


@cache
def uninterrupted(backbone: str, chosen: tuple[str, ...], store: Store) -> tuple[Recommender, checkpoint.Progress]:
    """What the tests of interruptions compare with."""
    with TemporaryDirectory() as out:
        return fit(backbone, chosen, store, Path(out), **EVERYTHING)


@dear_models
@pytest.mark.parametrize(
    ("every", "stops"), [(0.0, (2, 2, 2, 5)), (1e9, (2, 6, 7))], ids=["after every step", "after epochs"]
)
def test_resumed_equals_uninterrupted(
    backbone: str, chosen: tuple[str, ...], every: float, stops: Sequence[int], tiny_store: Store, tmp_path: Path
) -> None:
    """Stopped in every epoch, inside it and at its end, before the first checkpoint and between two of them."""
    whole, expected = uninterrupted(backbone, chosen, tiny_store)
    config = {**EVERYTHING, "checkpoint_seconds": every}
    for number, stop in enumerate(stops):
        with pytest.raises(KeyboardInterrupt):
            fit(backbone, chosen, tiny_store, tmp_path / "run", stop, resume=number > 0, **config)
        torch.manual_seed(12345)
    resumed, progress = fit(backbone, chosen, tiny_store, tmp_path / "run", resume=True, **config)
    assert same(resumed.state_dict(), whole.state_dict())
    assert without_times(progress.history) == without_times(expected.history)
    assert (progress.best, progress.best_epoch, progress.decays, progress.users) == (
        expected.best,
        expected.best_epoch,
        expected.decays,
        expected.users,
    )


@dear_models
def test_it_learns_more_than_popularity(backbone: str, chosen: Sequence[str], tmp_path: Path) -> None:
    if backbone not in NETWORKS and not chosen:
        pytest.skip("it is popularity")
    store = chain_store(tmp_path / "chain", users=300, items=ITEMS)
    model, _ = fit(backbone, chosen, store, tmp_path / "run", epochs=9, patience=0, batch_users=16, learning_rate=1e-2)
    asked = questions(store, Split.leave_one_out(store), "test")
    order = np.argsort(-np.bincount(store.items, minlength=ITEMS + 1)[1:], kind="stable")
    ranks = order.argsort()[targets(store, asked) - 1] + 1
    popular, learned = summarise(ranks)["ndcg@10"], quality(model, store, "test")["ndcg@10"]
    assert learned > 2 * popular
    assert set(model.routes(random_batch(ITEMS, [1, 4, 10, 2, 7]))) <= set(model.all_routes())
