"""The candidates of a search: names with settings, declared as files, not as code.

``recipes/slim/NAME.toml`` says what to change in the full model's configuration: a comment (what it is, in a line), ``[scale]``
(shares of fields of its backbone), ``[slim]`` (`How` it is trained), and any other tables of a configuration, which are put over
it. In their strings ``{full}`` stands for the full model's run. A technique without such a file is tried with its defaults, from
the full model's weights, so one that is added later takes part by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from leanrec.build import build
from leanrec.config import RunConfig, Tree, parse, read_toml
from leanrec.core.errors import ConfigError, LeanrecError
from leanrec.core.ranges import Positive, Share
from leanrec.core.registry import did_you_mean
from leanrec.core.types import Catalog
from leanrec.cost.count import cost
from leanrec.techniques import techniques

FULL_NAME = "full"
_FOLDER = "slim"


class How(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a candidate is trained.

    Attributes:
        start: From the full model's weights, with a learning rate that falls to zero; otherwise as the full model was.
        epochs: Share of the epochs that the full model took, if it starts from it.
        rate: Share of its learning rate.
        passes: Passes over the network in a step, beside the full model's one; how long it takes follows from it.
        hopeless: From half of its epochs on it is given up below this share of what the full model had at the same share of its
            own; 0 never gives up.
        demo: Whether `leanrec demo`, which has few minutes, tries it.
    """

    start: bool = False
    epochs: Positive = 0.5
    rate: Positive = 0.5
    passes: Positive = 1.0
    hopeless: Share = 0.85
    demo: bool = False


@dataclass(frozen=True)
class Recipe:
    """A candidate as declared.

    Attributes:
        name: Of its file.
        summary: What it is.
        how: How it is trained.
        scale: Shares of fields of the full model's backbone.
        tree: What to put over the configuration.
    """

    name: str
    summary: str
    how: How
    scale: dict[str, float]
    tree: Tree

    @property
    def techniques(self) -> frozenset[str]:
        """The techniques it uses; none for a small model of the same kind."""
        return frozenset(self.tree.get("technique", {}))


@dataclass(frozen=True)
class Candidate:
    """A candidate that fits the backbone and the catalogue.

    Attributes:
        name: Of its recipe.
        summary: What it is.
        config: What to train.
        flops: Of a request of full length on the whole of its network; what it spends may be less.
        bytes: Of its parameters before training.
        exact: Whether nothing but the size of the network decides its cost.
        effort: Expected training time, as a share of the full model's.
        hopeless: As in `How`.
    """

    name: str
    summary: str
    config: RunConfig
    flops: int
    bytes: int
    exact: bool
    effort: float
    hopeless: float


def recipes(wanted: Sequence[str] | None = None) -> list[Recipe]:
    """What to try with these techniques, or with all: small models, the techniques, and pairs of them.

    Raises:
        ConfigError: A technique is unknown.
    """
    names = techniques.names()
    for name in wanted or ():
        if name not in names:
            raise ConfigError(f"expected techniques in --techniques, got {name!r}; {did_you_mean(name, names)}")
    allowed = set(names if wanted is None else wanted)
    files = sorted((f for f in resources.files("leanrec.recipes").joinpath(_FOLDER).iterdir()), key=lambda f: f.name)
    found = [
        read_candidate(f.name.removesuffix(".toml"), f.read_text("utf-8")) for f in files if f.name.endswith(".toml")
    ]
    covered = {name for recipe in found if len(recipe.techniques) == 1 for name in recipe.techniques}
    found += [with_defaults(name) for name in names if name not in covered]
    return [recipe for recipe in found if recipe.techniques <= allowed]


def demonstrated() -> tuple[str, ...]:
    """The techniques that `leanrec demo` tries beside small models."""
    return tuple(sorted({name for recipe in recipes() if recipe.how.demo for name in recipe.techniques}))


def read_candidate(name: str, text: str) -> Recipe:
    """A candidate's file."""
    tree = read_toml(text, f"slim recipe {name}")
    try:
        how = msgspec.convert(tree.pop("slim", {}), How)
    except msgspec.ValidationError as error:
        raise ConfigError(f"slim recipe {name}: {error}") from error
    summary = text.lstrip("# ").split("\n")[0].rstrip(".")
    return Recipe(name, summary, how, tree.pop("scale", {}), tree)


def with_defaults(technique: str) -> Recipe:
    """A technique with its defaults."""
    summary = techniques.get(technique).summary.rstrip(".")
    return Recipe(technique, summary, How(start=True, hopeless=0), {}, {"technique": {technique: {}}})


def fitted(recipe: Recipe, full: RunConfig, run: Path, epochs: int, catalog: Catalog) -> Candidate | str:
    """The candidate for a full model, or why it cannot be one.

    Args:
        recipe: What to try.
        full: The full model's configuration.
        run: The full model's run.
        epochs: The epochs it took.
        catalog: The items.
    """
    tree = full.tree()
    reason = _scale(tree["backbone"], recipe.scale)
    if reason:
        return reason
    _put(tree, _filled(recipe.tree, str(run.resolve())))
    if recipe.how.start:
        tree["train"] |= {
            "init": str(run.resolve()),
            "since": 0,
            "epochs": max(1, round(recipe.how.epochs * epochs)),
            "learning_rate": recipe.how.rate * full.train.learning_rate,
            "schedule": "linear",
            "patience": 0,
        }
    try:
        config = parse(tree)
        if config == full:
            return "it would be the full model"
        model, whole = build(config, catalog)[0], build(full, catalog)[0]
        steps = model.backbone.max_length
        counted, of_full = cost(model, steps), cost(whole, steps)
    except LeanrecError as error:
        return str(error)
    share = config.train.epochs / max(full.train.epochs if not recipe.how.start else epochs, 1)
    effort = recipe.how.passes * share * (0.5 + 0.5 * counted.flops / of_full.flops)
    exact = not recipe.techniques
    sizes = (counted.flops, counted.bytes, exact, round(effort, 3))
    return Candidate(recipe.name, recipe.summary, config, *sizes, recipe.how.hopeless)


def _scale(backbone: Tree, shares: dict[str, float]) -> str:
    """Scale whole numbers of a backbone's settings in place; says why if that is impossible."""
    for field, share in shares.items():
        if not isinstance(backbone.get(field), int):
            return f"the backbone {backbone['name']} has no {field} to scale"
        unit = backbone.get("heads", 1) if field == "width" else 1
        smaller = max(1, round(share * backbone[field] / unit)) * unit
        if smaller >= backbone[field]:
            return f"the full model's {field} of {backbone[field]} cannot be smaller"
        backbone[field] = smaller
    return ""


def _put(tree: Tree, over: Tree) -> None:
    """Put one tree over another; a backbone of another name takes nothing from the full model's."""
    for key, value in over.items():
        other = key == "backbone" and value.get("name", tree[key]["name"]) != tree[key]["name"]
        if isinstance(value, dict) and isinstance(tree.get(key), dict) and not other:
            _put(tree[key], value)
        else:
            tree[key] = value


def _filled(value: Any, run: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, run) for key, inner in value.items()}
    return value.replace("{full}", run) if isinstance(value, str) else value
