"""Every command with its arguments and options, from the command line's own help."""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer

from leanrec.cli import app

HEAD = """# Commands

`leanrec COMMAND --help` says the same in a terminal. `--json` prints one JSON object on stdout and nothing else there.

How a command ends: 0 when it is done; 2 on bad usage or input, with one line on stderr that says what was expected, what came and
what to do; 130 on Ctrl-C; 143 on SIGTERM; 1 on a fault of leanrec.

**Completion.** `leanrec --install-completion` teaches your shell (bash, zsh, fish, PowerShell) to complete commands and options
with Tab; `leanrec --show-completion` prints what it would install. A Tab takes as long as `leanrec --help`.

"""
MARKUP = re.compile(r"\[/?(?:bold|italic|dim)\]")


def commands() -> list[tuple[str, typer.core.TyperCommand, typer.Context]]:
    """The whole name of each command, the command, and a context to ask it in."""
    root = typer.main.get_command(app)
    return list(_below(root, typer.Context(root, info_name="leanrec")))


def _below(command: object, context: typer.Context) -> Iterator[tuple[str, typer.core.TyperCommand, typer.Context]]:
    if not isinstance(command, typer.core.TyperGroup):
        assert isinstance(command, typer.core.TyperCommand)
        yield context.command_path, command, context
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from _below(below, typer.Context(below, info_name=name, parent=context))


def parameters(command: typer.core.TyperCommand, context: typer.Context) -> list[tuple[str, str, str]]:
    """What a command takes: how it is written, what it is for, and its default as the help shows it."""
    found = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and parameter.name != "help":
            meaning, _, extra = record[1].partition("  [")
            found.append((record[0], MARKUP.sub("", meaning), extra.removesuffix("]")))
    return found


def page() -> str:
    """The page of the site."""
    return HEAD + "\n".join(_written(*command) for command in commands())


def _written(name: str, command: typer.core.TyperCommand, context: typer.Context) -> str:
    about = MARKUP.sub("", command.help or "")
    examples = re.findall(r"Example: (.*)", about)
    text = re.sub(r"\n*Example: .*", "", about).strip()
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [
        f"## {name}",
        "",
        text,
        "",
        "```text",
        usage,
        "```",
        "",
        "| argument or option | meaning | default, range |",
        "|---|---|---|",
    ]
    lines += [f"| {' | '.join(_cells(*row))} |" for row in parameters(command, context)]
    lines += ["", "For instance:", "", "```text", *examples, "```"] if examples else []
    return "\n".join([*lines, ""])


def _cells(written: str, meaning: str, extra: str) -> list[str]:
    cells = [f"`{written}`", meaning, extra.removeprefix("default: ")]
    return [" ".join(cell.split()).replace("|", "\\|") for cell in cells]
