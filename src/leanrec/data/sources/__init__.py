"""Sources of events, by the form of log that they read. Importing a module registers its sources.

The form of a log is found from its content, never from its name: of all sources, the one that is surest reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leanrec.core.errors import DataError
from leanrec.core.registry import Registry
from leanrec.data.source import Named, Source

sources: Registry[Source] = Registry("log format", "leanrec.data.sources", "leanrec.sources")


def open_source(
    log: str | Path | Sequence[str | Path],
    form: str | None = None,
    wanted: Sequence[str | None] = (),
    *,
    header: bool | None = None,
    encoding: str | None = None,
) -> Source:
    """Find the source that reads a log, and open it.

    Args:
        log: A file, a folder, a pattern, or whatever a source takes; or a list of such.
        form: Name of the source; found from the content if None.
        wanted: Column names that the caller will ask for. If all are numbers, a table of text has no header and they are
            positions, counted from 1.
        header: Whether the first line of a text names its columns; numbers are positions only where it has no such names then.
        encoding: Of a text; UTF-8, what a byte order mark says, or what fits if None.

    Raises:
        ConfigError: There is no source of that name.
        DataError: The log is missing, empty, or of no known form.
    """
    parts = [str(part) for part in ([log] if isinstance(log, str | Path) else log)]
    if not parts:
        raise DataError("expected a log, got an empty list of them; name one")
    several = tuple(parts) if len(parts) > 1 else ()
    name = f"{parts[0]} and {len(parts) - 1} more" if several else parts[0]
    named = Named(name, form, tuple(name for name in wanted if name is not None), header, encoding, several)
    if form is not None:
        source = _built(form, named)
        source = _built("files", named) if source.file_form and named.several else source
    else:
        source = max((_built(name, named) for name in sources.names()), key=lambda source: source.sure())
        if not source.sure():
            named.refuse()
    source.open()
    return source


def _built(form: str, log: Named) -> Source:
    source = sources.get(form).build(log)
    source.form = form
    return source
