"""The pages of the API: which classes and functions stand on which page; mkdocstrings writes them out from their docstrings."""

from __future__ import annotations

import inspect
from typing import Any

import reference_names as names

TITLES = {
    "backbones": "Backbones",
    "objectives": "Objectives",
    "techniques": "Techniques",
    "formats": "Formats of exports",
    "sources": "Formats of logs",
}


def pages() -> dict[str, str]:
    """The pages by their place in the reference."""
    exported, engine = names.exported(), names.engine()
    offered = names.registries()
    shown = [*exported, *engine, *(thing for one in offered for thing in names.entries(one))]
    made = {
        "api/leanrec.md": _page(
            "import leanrec",
            "The names of `import leanrec`. They are the stable API; what other pages show may change with a release.",
            exported,
        ),
        "api/engine.md": _page(
            "The engine", "What answers requests from Python, from a run or from an export.", engine
        ),
    }
    for one in offered:
        title = TITLES.get(one.name, one.name.capitalize())
        about = (
            f"The first class is what every {one.registry.kind} is; the others come with leanrec, each with its configuration. "
            f"A package of yours adds one as an entry point in the group `{one.registry.group}`, "
            f"and registers it with `{one.name}.register`, a decorator."
        )
        made[f"api/{one.name}.md"] = _page(title, about, names.entries(one))
    about = "Classes that the functions and methods of the other pages give back or hold."
    made["api/results.md"] = _page("Results", about, names.given_back(shown))
    return made


def _page(title: str, about: str, things: list[Any]) -> str:
    return "\n\n".join([f"# {title}", about, *map(_directive, things)]) + "\n"


def _directive(thing: Any) -> str:
    """mkdocstrings' directive; a name that `import leanrec` offers is shown as such."""
    short = thing.__name__ if inspect.isclass(thing) or inspect.isfunction(thing) else str(thing)
    return f"::: {names.dotted(thing)}\n    options:\n      heading: {short}"
