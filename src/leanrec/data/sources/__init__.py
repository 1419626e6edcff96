"""Sources of events, by the form of log that they read. Importing a module registers its sources.

The form of a log is found from its content, never from its name: of all sources, the one that is surest reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leanrec.core.errors import DataError
from leanrec.core.registry import Registry
from leanrec.data.source import Named, Query, Source, shown

sources: Registry[Source] = Registry("log format", "leanrec.data.sources", "leanrec.sources")


def open_source(
    log: Any,
    form: str | None = None,
    wanted: Sequence[str | None] = (),
    *,
    header: bool | None = None,
    encoding: str | None = None,
) -> Source:
    """Find the source that reads a log, and open it.

    Args:
        log: A file, a folder, a pattern, an address, or whatever a source takes; a list of such; frames; or a `Query`.
        form: Name of the source; found from the content if None.
        wanted: Column names that the caller will ask for. If all are numbers, a table of text has no header and they are
            positions, counted from 1.
        header: Whether the first line of a text names its columns; numbers are positions only where it has no such names then.
        encoding: Of a text; UTF-8, what a byte order mark says, or what fits if None.

    Raises:
        ConfigError: There is no source of that name.
        DataError: The log is missing, empty, or of no known form.
    """
    named = _named(log, form, tuple(name for name in wanted if name is not None), header, encoding)
    if form is not None:
        source = _built(form, named)
        if source.file_form and (named.several or named.remote or named.value is not None):
            source = _built("files" if named.several else "remote" if named.remote else "frames", named)
    else:
        source = max((_built(name, named) for name in sources.names()), key=lambda source: source.sure())
        if not source.sure():
            named.refuse()
    source.open()
    return source


def _named(log: Any, form: str | None, wanted: tuple[str, ...], header: bool | None, encoding: str | None) -> Named:
    """What a user gives, with the name that messages call it by."""
    listed = isinstance(log, list | tuple) and not isinstance(log, Query)
    if listed and not log:
        raise DataError("expected a log, got an empty list of them; name one")
    if isinstance(log, Query):
        return Named(shown(log.database), form, wanted, header, encoding, value=log)
    parts = [str(part) for part in log if isinstance(part, str | Path)] if listed else [str(log)]
    if not isinstance(log, str | Path) and not (listed and len(parts) == len(log)):
        return Named(f"the {type(log).__name__}", form, wanted, header, encoding, value=log)
    name = parts[0] if len(parts) == 1 else f"{shown(parts[0])} and {len(parts) - 1} more"
    return Named(name, form, wanted, header, encoding, tuple(parts) if len(parts) > 1 else ())


def _built(form: str, log: Named) -> Source:
    source = sources.get(form).build(log)
    source.form = form
    return source
