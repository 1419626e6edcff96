"""What the loop does besides being resumable, which the conformance suite checks for every model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.errors import WriteError
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.types import Batch
from leanrec.data.batches import BatchLimits, TrainingData
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.train import checkpoint, loop
from leanrec.train.checkpoint import Progress
from leanrec.train.loop import TrainConfig, train_stage
from toys import same


class Toy(Recommender):
    """Two loss terms; notes what the loop asks of it."""

    def __init__(self, items: int, **shape: Any) -> None:
        config = {"width": 4, "layers": 1, "heads": 1, "max_length": 6} | shape
        super().__init__(SASRec(SASRecConfig(**config), items), lambda model, batch, states, targets: {})
        self.seen: list[tuple[bool, float]] = []
        self.users: list[list[int]] = []

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.users is not None
        self.seen.append((self.training, float(torch.rand(()))))
        self.users.append(batch.users.tolist())
        index, targets = batch.scored()
        states = self.backbone.encode(batch).states.flatten(0, 1)[index]
        return {
            "nll": self.items.nll(states, targets),
            "size": 0.01 * self.items.get_parameter("weight").square().sum(),
        }


@dataclass
class Notes:
    started: list[tuple[str, int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    epochs: list[dict[str, int | float]] = field(default_factory=list)

    def start(self, stage: Stage, steps: int, progress: Progress) -> None:
        self.started.append((stage.name, steps))

    def step(self, progress: Progress) -> None:
        self.losses.append(progress.loss)

    def epoch(self, progress: Progress) -> None:
        self.epochs.append(progress.history[-1])


def fit(
    store: Store,
    out: Path,
    quality: Iterable[float] = (0.5,) * 99,
    stage: Stage | None = None,
    model: Toy | None = None,
    resume: bool = False,
    **config: Any,
) -> tuple[Toy, Progress, Notes]:
    """Train with a made-up validation."""
    out.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = model or Toy(store.num_items)
    values = iter(quality)
    settings = TrainConfig(**{"batch_users": 16, "loss_precision": "float32", "encoder_precision": "float32"} | config)
    notes = Notes()

    def validate(trained: Recommender) -> dict[str, float]:
        assert not trained.training
        return {"ndcg@10": next(values), "hr@10": 0.7}

    data = TrainingData(store, Split.leave_one_out(store), 6)
    progress = train_stage(model, stage or Stage("train", 3), data, settings, out, validate, notes, resume=resume)
    return model, progress, notes


def test_the_watcher_hears_of_everything(tiny_store: Store, tmp_path: Path) -> None:
    model, progress, notes = fit(tiny_store, tmp_path)
    data = TrainingData(tiny_store, Split.leave_one_out(tiny_store), 6)
    steps = len(data.epoch(0, 0, BatchLimits(16, 16384)))
    assert notes.started == [("train", steps)]
    assert len(notes.losses) == len(model.seen) == 3 * steps
    assert all(training for training, _ in model.seen)
    assert not model.training
    assert notes.epochs == progress.history
    assert [row["epoch"] for row in notes.epochs] == [1, 2, 3]
    assert list(notes.epochs[0]) == ["epoch", "loss", "seconds", "ndcg@10", "hr@10", "validation_seconds"]
    assert (progress.epoch, progress.finished, progress.users) == (3, True, 3 * len(data))
    assert sorted(user for users in model.users[:steps] for user in users) == data.users.tolist()
    assert checkpoint.read_checkpoint(tmp_path / checkpoint.CHECKPOINT_FILE)[1] == progress


def test_the_loss_is_the_mean_over_the_steps_of_all_terms(tiny_store: Store, tmp_path: Path) -> None:
    _, progress, notes = fit(tiny_store, tmp_path, stage=Stage("train", 1))
    assert progress.history[0]["loss"] == notes.losses[-1]
    _, other, _ = fit(tiny_store, tmp_path, stage=Stage("train", 1), seed=1, learning_rate=1e-9)
    model = Toy(tiny_store.num_items)
    assert other.history[0]["loss"] == pytest.approx(
        float(torch.tensor(tiny_store.num_items).log())
        + 0.01 * model.items.get_parameter("weight").square().sum().item(),
        rel=0.05,
    )


def test_every_step_has_its_own_noise_and_the_same_in_every_run(tiny_store: Store, tmp_path: Path) -> None:
    first, second = (fit(tiny_store, tmp_path)[0].seen for _ in range(2))
    assert first == second
    assert len({noise for _, noise in first}) == len(first)
    assert fit(tiny_store, tmp_path, seed=1)[0].seen != first


def test_the_largest_seed_fits() -> None:
    progress = Progress(stage=63, epoch=100_002, step=1_000_002)
    torch.manual_seed(loop._seed(2**20 - 1, progress))
    assert loop._seed(0, Progress(epoch=1)) != loop._seed(0, Progress(step=1)) != loop._seed(0, Progress(stage=1))


def test_the_best_epoch_wins(tiny_store: Store, tmp_path: Path) -> None:
    model, progress, _ = fit(tiny_store, tmp_path / "a", [0.2, 0.5, 0.3, 0.5], stage=Stage("train", 4))
    assert (progress.best, progress.best_epoch) == (0.5, 2)
    short, _, _ = fit(tiny_store, tmp_path / "b", [0.2, 0.5], stage=Stage("train", 2))
    assert same(model.state_dict(), short.state_dict())


@pytest.mark.parametrize(("patience", "epochs"), [(0, 8), (1, 3), (2, 4), (3, 8)])
def test_patience(tiny_store: Store, tmp_path: Path, patience: int, epochs: int) -> None:
    quality = [0.1, 0.2, 0.2, 0.1, 0.3, 0.2, 0.2, 0.1]
    _, progress, _ = fit(tiny_store, tmp_path, quality, stage=Stage("train", 8), patience=patience)
    assert progress.epoch == epochs


def noted_rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Filled with the learning rate of every step."""
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def noting(self: torch.optim.AdamW, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        assert self.param_groups[0]["lr"] == self.param_groups[1]["lr"]
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    return rates


def test_a_plateau_cuts_the_rate(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = noted_rates(monkeypatch)
    quality = [0.5, 0.4, 0.4, 0.6, 0.1, 0.1]
    config = {"learning_rate": 0.01, "plateau": 2, "decay": 0.1, "warmup": 6}
    _, progress, notes = fit(tiny_store, tmp_path, quality, stage=Stage("train", 6), **config)
    steps = notes.started[0][1]
    assert rates[:6] == pytest.approx([0.01 * (done + 1) / 6 for done in range(6)])
    assert rates[6 : 3 * steps] == pytest.approx([0.01] * (3 * steps - 6))
    assert rates[3 * steps :] == pytest.approx([0.001] * 3 * steps)
    assert progress.decays == 2


def test_a_linear_schedule_ends_at_zero(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = noted_rates(monkeypatch)
    config = {"learning_rate": 0.01, "schedule": "linear", "plateau": 1, "warmup": 4}
    fit(tiny_store, tmp_path, [0.5, 0.4, 0.3], stage=Stage("train", 3), **config)
    total = len(rates)
    warm = [min(1.0, (done + 1) / 4) for done in range(total)]
    assert rates == pytest.approx([0.01 * warm[done] * (1 - done / total) for done in range(total)])


def test_weight_decay_is_on_matrices_only(tiny_store: Store) -> None:
    model = Toy(tiny_store.num_items)
    config = TrainConfig(weight_decay=0.3, beta2=0.9, learning_rate=0.02)
    matrices, vectors = loop._optimizer(model, Stage("train", 1), config).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    assert {parameter.dim() for parameter in matrices["params"]} == {2}
    assert {parameter.dim() for parameter in vectors["params"]} == {1}
    assert len(matrices["params"]) + len(vectors["params"]) == len(list(model.parameters()))
    assert matrices["betas"] == (0.9, 0.9) and matrices["lr"] == 0.02


def test_only_the_stages_parameters_learn(tiny_store: Store, tmp_path: Path) -> None:
    def items(model: nn.Module) -> Iterable[nn.Parameter]:
        return [parameter for name, parameter in model.named_parameters() if "items" in name]

    torch.manual_seed(0)
    before = Toy(tiny_store.num_items).state_dict()
    after = fit(tiny_store, tmp_path, stage=Stage("items", 1, parameters=items))[0].state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"backbone.items.weight"}
    assert not after["backbone.items.weight"][0].any()


def test_clipping_bounds_the_gradient(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def noting(self: torch.optim.AdamW, *args: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    fit(tiny_store, tmp_path, stage=Stage("train", 1))
    free = norms.copy()
    norms.clear()
    fit(tiny_store, tmp_path, stage=Stage("train", 1), clip=min(free) / 2)
    assert all(norm <= min(free) / 2 * 1.001 for norm in norms)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_encoders_precision(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    found: set[torch.dtype] = set()
    forward: Callable[..., Tensor] = nn.functional.linear

    def noting(*args: Any) -> Tensor:
        found.add(forward(*args).dtype)
        return forward(*args)

    monkeypatch.setattr(nn.functional, "linear", noting)
    model, progress, _ = fit(tiny_store, tmp_path, stage=Stage("train", 2), encoder_precision=precision)
    assert found == {dtype}
    assert progress.history[1]["loss"] < progress.history[0]["loss"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_finished_stage_is_not_trained_again(tiny_store: Store, tmp_path: Path) -> None:
    model, progress, _ = fit(tiny_store, tmp_path, [0.2, 0.5, 0.3])
    again, same_progress, notes = fit(tiny_store, tmp_path, resume=True)
    assert not notes.losses and again.seen == []
    assert same_progress == progress
    assert same(again.state_dict(), model.state_dict())


def test_without_resume_a_checkpoint_is_not_read(tiny_store: Store, tmp_path: Path) -> None:
    first = fit(tiny_store, tmp_path)[0].state_dict()
    assert same(fit(tiny_store, tmp_path)[0].state_dict(), first)


def test_resume_with_nothing_to_resume_starts(tiny_store: Store, tmp_path: Path) -> None:
    assert fit(tiny_store, tmp_path, resume=True)[1].epoch == 3


@pytest.mark.parametrize(("seconds", "within"), [(0.0, True), (1e9, False)])
def test_checkpoints_within_an_epoch(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, within: bool
) -> None:
    saved: list[int] = []
    save = checkpoint.save_checkpoint

    def noting(*args: Any) -> None:
        saved.append(args[-1].step)
        save(*args)

    monkeypatch.setattr(checkpoint, "save_checkpoint", noting)
    _, _, notes = fit(tiny_store, tmp_path, stage=Stage("train", 1), checkpoint_seconds=seconds)
    steps = notes.started[0][1]
    assert saved == ([*range(1, steps + 1)] if within else []) + [0]


def test_a_full_disk_ends_training_with_one_line(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    fit(tiny_store, tmp_path, stage=Stage("train", 1))
    before = (tmp_path / checkpoint.CHECKPOINT_FILE).read_bytes()
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(WriteError, match="No space left on device; free some space, then go on with --resume"):
        fit(tiny_store, tmp_path)
    assert (tmp_path / checkpoint.CHECKPOINT_FILE).read_bytes() == before


def test_a_model_that_diverges_keeps_its_best_weights(tiny_store: Store, tmp_path: Path) -> None:
    quality = [0.4, float("nan"), float("nan")]
    model, progress, _ = fit(tiny_store, tmp_path / "a", quality)
    assert (progress.best, progress.best_epoch) == (0.4, 1)
    short, _, _ = fit(tiny_store, tmp_path / "b", [0.4], stage=Stage("train", 1))
    assert same(model.state_dict(), short.state_dict())
