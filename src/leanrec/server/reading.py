"""What a request says: its key, its body and its query, each checked before anything is done with it."""

from __future__ import annotations

import functools
import hmac
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from leanrec.server import schemas
from leanrec.server.problems import Refusal
from leanrec.server.settings import Settings

_Body = TypeVar("_Body", bound=msgspec.Struct)
_decoder: Any = functools.cache(msgspec.json.Decoder)
"""Decodes bodies of a type; made once for each."""


def check_key(request: Request, *expected: str) -> None:
    """Refuse a request that carries none of the keys.

    Raises:
        Refusal: The key is missing or another one.
    """
    given = request.headers.get("x-api-key", "")
    if not given:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else ""
    if not any(hmac.compare_digest(given.encode("latin-1"), key.encode()) for key in expected if key):
        raise Refusal(
            "unauthorized",
            "expected the server's key in X-API-Key or as a bearer token, got " + ("another" if given else "none"),
            headers={"WWW-Authenticate": "Bearer"},
        )


def check_admin_key(request: Request, settings: Settings) -> None:
    """Refuse whoever may not reload.

    Raises:
        Refusal: The server has no admin key, or the request has another one.
    """
    if not settings.admin_key:
        raise Refusal("forbidden", "expected a server with an admin key to reload by HTTP, got one without; use SIGHUP")
    check_key(request, settings.admin_key)


async def read_body(request: Request, settings: Settings, form: type[_Body]) -> _Body:
    """The body of a request, checked against its schema.

    Raises:
        Refusal: It is too large, not JSON, or does not fit the schema.
    """
    # a page of another site cannot send this type without being asked first, so it cannot speak for its reader
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal("not-json-type", f"expected a body of application/json, got {kind!r:.80}")
    raw = await _read(request, settings.body_bytes)
    try:
        return _decoder(form).decode(raw)
    except msgspec.ValidationError as error:
        raise Refusal("bad-request", f"the body does not fit: {error}; see /openapi.json") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal("not-json", f"expected a body of JSON, got something else: {error}") from error


async def _read(request: Request, most: int) -> bytes:
    told = request.headers.get("content-length", "0")
    if told.isdigit() and int(told) > most:
        raise _too_large(most, told)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise _too_large(most, f"more than {most}")
    return bytes(body)


def _too_large(most: int, got: str) -> Refusal:
    return Refusal(
        "too-large", f"expected a body of at most {most} bytes, got {got}; the server sets this by --body-bytes"
    )


def text_parameter(request: Request, name: str) -> str:
    """A parameter of the query; empty if it is missing.

    Raises:
        Refusal: It is longer than a key may be, or not UTF-8.
    """
    given = _parameter(request, name, "")
    if len(given) > schemas.KEY_LENGTH:
        raise Refusal("bad-request", f"expected {name} of at most {schemas.KEY_LENGTH} characters, got {len(given)}")
    return given


def number_parameter(request: Request, name: str, default: int, most: int) -> int:
    """A whole number of the query, from 1 to ``most``.

    Raises:
        Refusal: It is something else.
    """
    given = _parameter(request, name, str(default))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise Refusal("bad-request", f"expected {name} in 1..{most}, got {given!r:.40}")
    return int(given)


def _parameter(request: Request, name: str, default: str) -> str:
    """A parameter as it was sent.

    Starlette replaces bytes that are not UTF-8 by other characters, which could make a user's name that of another user.
    """
    try:
        query = request.scope["query_string"].decode("ascii")
        return dict(parse_qsl(query, keep_blank_values=True, errors="strict")).get(name, default)
    except ValueError as error:
        raise Refusal("bad-request", "expected a query of UTF-8 text as %XX, got other bytes") from error
