"""Formats of exports, a module or folder each. Importing one registers it."""

from leanrec.core.registry import Registry
from leanrec.formats.base import Format

formats: Registry[Format] = Registry("format", "leanrec.formats", "leanrec.formats")


def format_names(runs_code: bool | None = None) -> list[str]:
    """Names of all formats, or of those whose opening can run code that is in a file, or cannot."""
    return [name for name in formats.names() if runs_code in (None, formats.get(name).build().runs_code)]
