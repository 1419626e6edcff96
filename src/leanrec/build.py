"""The composition root: the only module that sees both registries, and opens runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from leanrec.artifact.manifest import DataRef, Manifest
from leanrec.artifact.store import load_run
from leanrec.backbones import backbones
from leanrec.config import CONFIG, RunConfig, parse, parse_toml
from leanrec.core.errors import ArtifactError, CompositionError, ConfigError, one_line
from leanrec.core.recommender import Recommender
from leanrec.core.sketch import DTYPE_NAMES, sketch
from leanrec.core.stage import Stage
from leanrec.core.technique import Technique, compose
from leanrec.core.tied import restored
from leanrec.core.types import Catalog, Route
from leanrec.cost.count import Flops
from leanrec.data.mapped import open_for
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.engine.engine import Engine
from leanrec.engine.torch_runner import EnginePrecision, TorchRunner
from leanrec.objectives import objectives
from leanrec.techniques import techniques


def build(config: RunConfig, catalog: Catalog) -> tuple[Recommender, tuple[Stage, ...]]:
    """A model with fresh weights, seeded by ``train.seed``, and the stages of its training.

    Raises:
        ConfigError: A value does not fit its backbone or objective.
        CompositionError: The techniques and the backbone do not fit.
    """
    torch.manual_seed(config.train.seed)
    backbone = backbones.get(config.backbone.name).build(config.backbone.config, len(catalog))
    objective = objectives.get(config.objective.name).build(config.objective.config, catalog)
    model = Recommender(backbone, objective)
    return model, compose(model, techniques_of(config), Stage("train", config.train.epochs))


def techniques_of(config: RunConfig) -> list[Technique]:
    """The techniques of a configuration."""
    return [techniques.get(t.name).build(t.config) for t in config.technique]


def split_of(store: Store, config: RunConfig) -> Split:
    """The split of the whole store that a configuration asks for, its validation users in the parts of `data.split`."""
    timed = config.data.split == "time"
    data, store = config.data, store.whole
    split = Split.time_quantiles(store, data.valid_from, data.test_from) if timed else Split.leave_one_out(store)
    return (split.reserved(data.confirm) if data.confirm else split).halved()


def saved_config(run: Path) -> RunConfig:
    """The resolved configuration of a run that was started.

    Raises:
        ArtifactError: There is none.
    """
    path = run / CONFIG
    if not path.is_file():
        raise ArtifactError(f"expected a run with {CONFIG} to resume, got none at {run}; start it without --resume")
    return parse_toml(path.read_bytes(), str(path))


@dataclass(frozen=True)
class OpenRun:
    """A finished run, ready to answer.

    Attributes:
        path: Its directory.
        manifest: What was written about it.
        config: Its configuration.
        catalog: Its items.
        model: The trained model, in eval mode.
    """

    path: Path
    manifest: Manifest
    config: RunConfig
    catalog: Catalog
    model: Recommender

    @cached_property
    def flops(self) -> Flops:
        """Counts what requests cost."""
        return Flops(self.model)

    def engine(self, precision: EnginePrecision = "float32") -> Engine:
        """What answers requests, its encoder in ``precision``; see `TorchRunner`."""
        flops = {Route.parse(r.route): r.flops for r in self.manifest.routes}
        return Engine(TorchRunner(self.model, precision), self.catalog, flops, self.manifest.cost.flops)

    def split(self, store: Store) -> Split:
        """The split of its configuration."""
        return split_of(store, self.config)

    def store(self, data: Path | None = None) -> Store:
        """The store the run was trained on, or another one, its histories in the run's ids (`data.mapped`).

        Raises:
            DataError: It is not there, or the run knows none of its items.
        """
        return open_for(self.catalog, self.path, self.manifest.data.path, data)


def trained_on(store: Store, trained: DataRef) -> bool:
    """Whether a run was trained on this store, and not on another one, an older state of it, or one that is seen with its items."""
    had = (trained.catalog_sha256, trained.users, trained.items, trained.events)
    has = (store.meta.catalog_sha256, store.num_users, store.num_items, store.num_events)
    return store.whole is store and had == has


def open_run(path: Path | str) -> OpenRun:
    """Load a finished run and check every file of it.

    Raises:
        ArtifactError: A file is missing, damaged, hostile or of another version.
    """
    path = Path(path)
    manifest, state, catalog = load_run(path)
    try:
        config = parse(manifest.config)
    except ConfigError as error:
        raise ArtifactError(f"the configuration in {path}/manifest.json is not usable: {error}") from error
    _check_weights(path, config, catalog, state)
    model = _finished(config, catalog)
    try:
        model.load_state_dict(restored(model, state))
    except (RuntimeError, ValueError, IndexError) as error:
        raise _misfit(path, one_line(error)) from error
    _check_routes(path, manifest, model)
    return OpenRun(path, manifest, config, catalog, model.eval())


def _finished(config: RunConfig, catalog: Catalog) -> Recommender:
    """A model as its training hands it on, with fresh weights."""
    model, stages = build(config, catalog)
    for stage in stages:
        stage.finish(model)
    return model


def _check_weights(path: Path, config: RunConfig, catalog: Catalog, state: dict[str, Tensor]) -> None:
    """Hold the weights that a configuration declares against those that are there, before any are made."""
    try:
        declared = sketch(lambda: _finished(config, catalog), len(state))
    except CompositionError as error:
        raise CompositionError(f"cannot open {path}, whose techniques do not compose: {error}") from error
    except (ConfigError, ValueError) as error:
        raise _misfit(path, one_line(error)) from error
    found = {
        name: (DTYPE_NAMES.get(weight.dtype, str(weight.dtype)), tuple(weight.shape)) for name, weight in state.items()
    }
    if found != declared:
        name = min(n for n in {*found, *declared} if found.get(n) != declared.get(n))
        expected, got = (f"{x[name][0]} {list(x[name][1])}" if name in x else "none" for x in (declared, found))
        raise _misfit(path, f"expected {one_line(name)} as {expected}, got {got}")


def _check_routes(path: Path, manifest: Manifest, model: Recommender) -> None:
    """Hold the routes whose costs are declared against those that the model can take."""
    try:
        routes = {Route.parse(route.route) for route in manifest.routes}
        for route in routes:
            model.check(route)
    except (ConfigError, CompositionError) as error:
        raise _misfit(path, one_line(error)) from error
    missing = [str(route) for route in model.all_routes() if route not in routes]
    if missing:
        raise _misfit(path, f"expected the cost of the route {missing[0]}, got none")


def _misfit(path: Path, what: str) -> ArtifactError:
    return ArtifactError(f"the weights of {path} do not fit its configuration: {what}; retrain or restore it")
