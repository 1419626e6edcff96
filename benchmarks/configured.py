"""The configurations of a case's models, in what order they are trained, and when a model is no longer the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Any

import msgspec
import tomli_w

from benchmarks.spec import FULL, Case, Commands, Models
from leanrec.config import RunConfig, override, parse, read_recipe
from leanrec.core.errors import ConfigError


def ordered(case: Models) -> list[str]:
    """The models of a case, each after those that it needs.

    Raises:
        ConfigError: Two of them need each other.
    """
    found: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ConfigError(f"{case.name}: expected models that do not wait for each other, got {' -> '.join(above)}")
        for other in case.models[name].needs():
            visit(other, (*above, name))
        if name not in found:
            found.append(name)

    for name in case.models:
        visit(name, ())
    return found


def candidates(case: Models, name: str, seed: int = 0) -> list[tuple[dict[str, Any], RunConfig]]:
    """The configurations that a model is chosen from, each with what it has of its own; most models have one.

    Weights and architectures of other models are not in them yet.
    """
    model = case.models[name]
    found = []
    for values in product(*model.choose.values()):
        own = dict(zip(model.choose, values, strict=True))
        tree = read_recipe(model.recipe) if model.recipe else {}
        tree = override(tree, [*_assignments(case.settings), *_assignments(model.settings)])
        tree = override(tree, [f"train.seed={seed}", *(f"{key}={_toml(value)}" for key, value in own.items())])
        if model.plain:
            tree["technique"] = {}
        found.append((own, parse(tree)))
    return found


def _assignments(settings: Mapping[str, Any], path: str = "") -> list[str]:
    """``key.path=value`` of every leaf of a table; an empty table is one."""
    found: list[str] = []
    for key, value in settings.items():
        inner = f"{path}.{key}" if path else key
        found += _assignments(value, inner) if isinstance(value, dict) and value else [f"{inner}={_toml(value)}"]
    return found


def _toml(value: Any) -> str:
    return "{}" if value == {} else tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


@cache
def digest(case: Case, name: str, timed: bool = False) -> str:
    """What a model or command is and how it is measured, as 12 hex digits.

    Settings at their defaults do not count: a new setting leaves rows as good as they were. Whoever changes a default, or what a
    figure means, raises ``code``. Seeds and metrics do not count either, they are columns.

    Args:
        case: Of the model.
        name: Of the model or command.
        timed: Of its times, not of its quality.
    """
    if isinstance(case, Commands):
        return _sha([case.code, msgspec.structs.replace(case.variants[name], timeout=1.0, like="", needs=())])
    model, measure = case.models[name], case.measure
    content: list[Any] = [_chosen(case, name), model.budgets]
    if timed:
        return _sha(["time", *content, measure.seconds, _chosen(case, FULL) if case.full else ""])
    content += [measure.both, model.routes, model.int8, [[other, _chosen(case, other)] for other in model.against]]
    return _sha(["quality", *content])


@cache
def run_digests(case: Models, name: str) -> tuple[str, ...]:
    """What each candidate of a model is trained as, as 12 hex digits; what is measured of it does not count."""
    model = case.models[name]
    head = [case.code, case.log, _told(case.shop) if case.log == "shop" else "", model.derive]
    made_of = [[role, run_digests(case, other)] for role in ("init", "teacher") if (other := getattr(model, role))]
    made_of += [["of", _chosen(case, model.of)]] if model.of else []
    return tuple(_sha([*head, made_of, _told_config(config)]) for _, config in candidates(case, name))


def _chosen(case: Models, name: str) -> list[Any]:
    """A model and its budget, and on what they are chosen."""
    budget = case.models[name].budget
    return [run_digests(case, name), _told(budget) if budget else None, case.measure.exclude_seen]


def _sha(content: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()[:12]


def _told_config(config: RunConfig) -> Any:
    parts = {"backbone": config.backbone, "objective": config.objective}
    parts |= {f"technique.{choice.name}": choice for choice in config.technique}
    told = {part: [choice.name, _told(choice.config)] for part, choice in parts.items()}
    return told | {"train": _told(config.train), "data": _told(config.data)}


def _told(struct: msgspec.Struct) -> dict[str, Any]:
    """The fields of a configuration that are not at their defaults."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(struct)}
    values = msgspec.structs.asdict(struct)
    return {name: msgspec.to_builtins(value) for name, value in values.items() if value != defaults[name]}
