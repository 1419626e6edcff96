"""Ask a server to go over to another model."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from leanrec.core.errors import ConfigError, LeanrecError, one_line

_TIMEOUT = 600.0
"""Seconds; a server opens and tries the model before it answers."""


class ReloadError(LeanrecError):
    """A server did not go over to a model."""


def checked_server(url: str) -> str:
    """The address of a server without a slash at its end.

    Raises:
        ConfigError: It is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
        raise ConfigError(f"expected the address of a server such as http://localhost:8000, got {one_line(url)!r}")
    return f"{parts.scheme}://{parts.netloc}"


def reload_server(url: str, model: Path, key: str) -> None:
    """Ask a server for ``POST /v1/reload``, and wait until it has gone over.

    Args:
        url: Of the server, as `checked_server` takes it.
        model: A run or export, at a place that the server sees.
        key: Its admin key.

    Raises:
        ReloadError: It does not answer, or refuses.
        ConfigError: The address is none.
    """
    server = checked_server(url)
    headers = {"Content-Type": "application/json", "X-API-Key": key}
    body = json.dumps({"path": str(model.resolve())}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{server}/v1/reload", body, headers), timeout=_TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        said = f"{error.code}, {_detail(error)}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = f"no answer: {one_line(error)}"
    raise ReloadError(
        f"expected {server} to go over to {model}, got {said}; the run is promoted, ask again with refresh --resume"
    )


def _detail(error: urllib.error.HTTPError) -> str:
    """What a refusal says."""
    try:
        found = json.loads(error.read(1 << 16))
        return one_line(found["detail"] or found["title"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return one_line(error.reason)
