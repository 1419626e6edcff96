"""Cases as TOML, read and checked: unknown names and keys are refused before anything is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.configured import candidates, ordered
from benchmarks.derived import DERIVED
from benchmarks.logs import LOGS
from benchmarks.spec import FULL, Budget, Case, Command, Commands, Measure, Model, Models
from leanrec.config import read_toml
from leanrec.core.errors import ConfigError, one_line
from leanrec.core.registry import did_you_mean

CASES = Path(__file__).parent / "cases"


def names(folder: Path = CASES) -> list[str]:
    """All cases."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load(name: str, folder: Path = CASES) -> Case:
    """A case by name.

    Raises:
        ConfigError: There is none, or it is not one.
    """
    path = folder / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"expected a case, got {one_line(repr(name))}; {did_you_mean(name, names(folder))}")
    return parse_case(name, path.read_text("utf-8"), str(path))


def parse_case(name: str, text: str, where: str) -> Case:
    """A case from TOML.

    Raises:
        ConfigError: An unknown key or name, or a wrong value, with its place.
    """
    tree = {"kind": "models"} | read_toml(text, where) | {"name": name}
    kinds = {"models": Models, "command": Commands}
    if tree["kind"] not in kinds:
        raise ConfigError(f"{where}: expected kind, got {tree['kind']!r}; {did_you_mean(str(tree['kind']), kinds)}")
    models = tree["kind"] == "models"
    kind, of = (Models, Model) if models else (Commands, Command)
    _known(where, "", tree, ["kind", *kind.__struct_fields__])
    full: dict[str, Any] = {FULL: tree["full"]} if "full" in tree else {}
    variants: dict[str, Any] = full | _table(where, "variants", tree.get("variants", {}))
    for variant, keys in variants.items():
        _known(where, f"variants.{variant}", _table(where, f"variants.{variant}", keys), of.__struct_fields__)
        if models:
            _known(where, f"variants.{variant}.budget", keys.get("budget", {}), Budget.__struct_fields__)
    _known(where, "measure", tree.get("measure", {}), Measure.__struct_fields__)
    alike = {variant: _alike(where, variant, variants, ()) for variant in variants}
    if full:
        tree["full"] = alike.pop(FULL)
    tree["variants"] = alike
    try:
        case = msgspec.convert(tree, Models | Commands)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {one_line(error)}") from error
    if isinstance(case, Models):
        _check(where, case)
    return case


def _check(where: str, case: Models) -> None:
    """Hold a case of models against what there is, and against itself.

    Raises:
        ConfigError: It names a model that it has not, models that wait for each other, or settings that are none.
    """
    if case.log not in LOGS:
        raise ConfigError(f"{where}: expected a log, got {case.log!r}; {did_you_mean(case.log, LOGS)}")
    for name, model in case.models.items():
        for other in model.needs():
            if other not in case.models:
                hint = did_you_mean(other, case.models)
                raise ConfigError(f"{where}: expected a model of the case in variants.{name}, got {other!r}; {hint}")
        if model.derive and model.derive not in DERIVED:
            hint = did_you_mean(model.derive, DERIVED)
            raise ConfigError(f"{where}: expected what variants.{name} derives, got {model.derive!r}; {hint}")
        if bool(model.derive) != bool(model.of):
            raise ConfigError(f"{where}: expected both derive and of in variants.{name}, got one; give both or neither")
        try:
            candidates(case, name)
        except ConfigError as error:
            raise ConfigError(f"{where}: variants.{name}: {error}") from error
    ordered(case)


def _alike(where: str, name: str, trees: Mapping[str, Any], above: tuple[str, ...]) -> dict[str, Any]:
    """A variant with what it has of the one that it is like."""
    tree = trees[name]
    other = tree.get("like", "")
    if not other:
        return tree
    if other not in trees or other in (*above, name):
        hint = did_you_mean(str(other), [one for one in trees if one not in (*above, name)])
        raise ConfigError(f"{where}: expected another variant in variants.{name}.like, got {other!r}; {hint}")
    return _merged(_alike(where, other, trees, (*above, name)), tree)


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(low[key], high[key]) for key in low.keys() & high.keys() if _tables(low[key], high[key])}
    return low | high | both


def _tables(*values: Any) -> bool:
    return all(isinstance(value, dict) and value for value in values)


def _table(where: str, path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a table at {path}, got {one_line(repr(value))}")
    return value


def _known(where: str, path: str, tree: Any, known: Iterable[str]) -> None:
    for key in _table(where, path, tree):
        if key not in known:
            full = f"{path}.{key}" if path else key
            raise ConfigError(f"{where}: unknown key {one_line(repr(full))}; {did_you_mean(key, known)}")
