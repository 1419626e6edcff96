"""What is measured, as TOML: models on a log, or commands that print figures. `digest` says when it is no longer the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tomli_w

from leanrec.config import RunConfig, override, parse, read_recipe, read_toml
from leanrec.core.errors import ConfigError, one_line
from leanrec.core.registry import did_you_mean
from leanrec.data.simulate import Shop

CASES = Path(__file__).parent / "cases"
FULL = "full"
Whole = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the budget of a routed model is chosen, on validation users.

    Attributes:
        rule: "cheapest" is the lowest that loses less than ``max_loss`` of the whole network's NDCG@10; "above" the lowest with
            which all metrics of the case are above the full model's by the share ``margin``; "fixed" is ``most``.
        max_loss: See ``rule``.
        margin: See ``rule``; the router was fitted on such users, so equal would be too little.
        most: Largest budget, as a share of the full model's FLOPs.
    """

    rule: Literal["cheapest", "above", "fixed"] = "cheapest"
    max_loss: Positive = 0.005
    margin: float = 0.01
    most: Positive = 0.34


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model to train and measure.

    Attributes:
        like: Another model of the case whose keys this one has, too, unless it gives its own.
        recipe: To start from.
        settings: Changes to it, as tables.
        plain: Whether the techniques of recipe and settings are dropped.
        init: Model of the case whose weights it starts from.
        teacher: Model of the case that it learns from.
        derive: Makes the configuration of what another model turned out to be, see `benchmarks.derived`.
        of: That other model.
        choose: Setting -> values; the combination with the best validation NDCG@10 is measured, the others are only trained.
        budget: Of a routed model.
        budgets: More budgets at which it is measured.
        routes: Whether its routes are held against those that do not look at the user.
        against: Models of the case over which its lead is told, user by user.
        int8: Whether its export with int8 weights is measured, too.
    """

    like: str = ""
    recipe: str = ""
    settings: dict[str, Any] = {}
    plain: bool = False
    init: str = ""
    teacher: str = ""
    derive: str = ""
    of: str = ""
    choose: dict[str, list[Any]] = {}
    budget: Budget | None = None
    budgets: tuple[Positive, ...] = ()
    routes: bool = False
    against: tuple[str, ...] = ()
    int8: bool = False

    def needs(self) -> list[str]:
        """Models of the case that come before it."""
        return list(dict.fromkeys(filter(None, (self.init, self.teacher, self.of, *self.against))))


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is measured of every model.

    Attributes:
        exclude_seen: Whether users' own items leave the rankings.
        both: Whether quality is also told the other way round.
        metrics: Of `leanrec.evaluate.metrics`, with intervals.
        forms: Timed in turns: as "run", as ONNX "export", or both; none times nothing.
        batches: Users of a request.
        seconds: For each model, form and size of batch.
    """

    exclude_seen: bool = True
    both: bool = False
    metrics: tuple[str, ...] = ("hr@10", "ndcg@10", "mrr@10")
    forms: tuple[Literal["run", "export"], ...] = ("run", "export")
    batches: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = (1, 256)
    seconds: float = 6.0


class Models(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False, tag="models", tag_field="kind"
):
    """A case of models on one log.

    Attributes:
        about: What it asks, in a sentence.
        log: Name in `benchmarks.logs`, or "shop" for the simulated one.
        shop: Of the simulated one.
        code: Raised by hand when the code measures something else than before under the same settings.
        seeds: Of training.
        settings: Of every model.
        full: The model that the others are held against; its name is "full".
        variants: The others, by name.
        measure: Of every model.
    """

    name: str = ""
    about: str
    log: str
    shop: Shop = Shop()
    code: Whole = 1
    seeds: tuple[Whole, ...] = (0,)
    settings: dict[str, Any] = {}
    full: Model | None = None
    variants: dict[str, Model] = {}
    measure: Measure = Measure()

    @property
    def models(self) -> dict[str, Model]:
        """All of them, the full one first."""
        return ({} if self.full is None else {FULL: self.full}) | self.variants


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command that prints figures, one JSON object a line; see `benchmarks.commands`.

    Attributes:
        like: Another variant whose keys this one has, too.
        command: Words; {python}, {logs}, {work}, {data:LOG}, {run:CASE/MODEL}, {export:CASE/MODEL} and {env:NAME} are filled in.
        timeout: Seconds.
        env: Variables of its environment.
        needs: Modules without which it is left out.
    """

    like: str = ""
    command: tuple[str, ...]
    timeout: Positive = 3600.0
    env: dict[str, str] = {}
    needs: tuple[str, ...] = ()


class Commands(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False, tag="command", tag_field="kind"
):
    """A case of commands: other libraries, servers, the engine.

    Attributes:
        about: What it asks, in a sentence.
        code: As in `Models`.
        variants: Commands, by name.
    """

    name: str = ""
    about: str
    code: Whole = 1
    variants: dict[str, Command]


Case = Models | Commands


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
    from benchmarks.derived import DERIVED
    from benchmarks.logs import LOGS

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
        timed: Of its times, which depend on more.
    """
    return hashlib.sha256(msgspec.json.encode(_content(case, name, timed), order="sorted")).hexdigest()[:12]


def _content(case: Case, name: str, timed: bool) -> Any:
    if isinstance(case, Commands):
        return [case.code, msgspec.structs.replace(case.variants[name], timeout=1.0, like="", needs=())]
    model, measure = case.models[name], case.measure
    content: list[Any] = [case.code, case.log, measure.exclude_seen, measure.both]
    content += [_told(case.shop)] if case.log == "shop" else []
    content += [[_told_config(config) for _, config in candidates(case, name)]]
    content += [_told(model.budget) if model.budget else None, model.budgets, model.routes, model.int8, model.derive]
    content += [[other, digest(case, other)] for other in model.needs()]
    content += [[role, getattr(model, role)] for role in ("init", "teacher", "of")]
    if timed:
        content += ["time", measure.seconds, digest(case, FULL) if case.full else ""]
    return content


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
