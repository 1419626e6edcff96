"""The rules that the code keeps about itself: names, docstrings, lengths. `make check` runs them."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "leanrec"
MODULES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 400


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(path: Path) -> str:
    """The name of a module."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def defined(module: ast.Module) -> Iterator[str]:
    """Names that a module defines at its top level."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def test_one_public_name_stands_for_one_thing() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for name in sorted(set(defined(tree(path)))):
            if not name.startswith("_"):
                homes[name].append(where(path))
    doubled = {name: found for name, found in homes.items() if len(found) > 1}
    assert doubled == {}, "rename to what it is, or make it private where only its module uses it"


def test_private_names_stay_in_their_module() -> None:
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("leanrec")):
                private = [a.name for a in node.names if a.name.startswith("_") and not a.name.startswith("__")]
                assert not private, f"{where(path)} imports {private} from {node.module}; make the name public"


def documented(owner: type, name: str) -> bool:
    """Whether a method or property has a docstring, its own or that of a base class."""
    return any(getattr(vars(base).get(name), "__doc__", None) for base in owner.__mro__)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_whatever_is_public_says_what_it_is_for(path: Path) -> None:
    public = [
        node
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
    classes = [node for node in public if isinstance(node, ast.ClassDef)]
    if not classes:
        return
    try:
        module = importlib.import_module(dotted(path))
    except ModuleNotFoundError as error:  # of an extra that is not installed
        pytest.skip(str(error))
    for node in classes:
        owner = getattr(module, node.name)
        methods = [inner.name for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)]
        silent = [name for name in methods if not name.startswith("_") and not documented(owner, name)]
        assert silent == [], f"{dotted(path)}.{node.name}: a docstring, or a base class that has one"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_docstring_does_not_send_its_reader_elsewhere(path: Path) -> None:
    """An override inherits the docstring of what it overrides; where it says something, it says it itself."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]
    assert [node.name for node in functions if (ast.get_docstring(node) or "").startswith("See ")] == []


def test_files_can_be_read_in_one_go() -> None:
    files = [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))]
    long = {where(path): lines for path in files if (lines := path.read_text("utf-8").count("\n")) > MOST_LINES}
    assert long == {}, f"split by subject; at most {MOST_LINES} lines"
