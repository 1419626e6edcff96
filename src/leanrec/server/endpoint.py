"""What every path does first and last: keys, limits, refusals, metrics."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from leanrec.core.errors import LeanrecError
from leanrec.server.problems import MEDIA, Refusal, refusal
from leanrec.server.service import Service

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
log = logging.getLogger("leanrec.server")
encoder = msgspec.json.Encoder()
HASTY, REFUSED = "leanrec.hasty", "leanrec.refused"
"""Keys of a request's scope: whether its client asks sooner than it was told to, and whether it was told to wait."""


def reply(content: Any) -> Response:
    """A struct, or a list of them, as JSON."""
    return Response(encoder.encode(content), media_type="application/json")


class Door:
    """Lets requests in, and turns whatever goes wrong into problem details."""

    def __init__(self, service: Service) -> None:
        self.service, self.settings = service, service.settings

    def of(self, path: str, handler: Handler) -> Handler:
        """A handler behind the door. Paths of /v1 need the key, if there is one."""
        guarded = path.startswith("/v1/") and bool(self.settings.api_key)

        async def call(request: Request) -> Response:
            started = time.perf_counter()
            try:
                if guarded:
                    self._key(request, self.settings.api_key, self.settings.admin_key)
                response = await handler(request)
            except Refusal as refused:
                request.scope[REFUSED] = "Retry-After" in refused.headers
                response = self._refused(refused)
            except LeanrecError as error:
                response = self._refused(refusal(error))
            except ClientDisconnect:
                response = Response(status_code=400)  # nobody is there to read it
            except Exception:
                log.exception("a fault of leanrec at %s", path)
                response = self._refused(
                    Refusal(
                        "internal",
                        "a fault of leanrec; the log of the server says more, the request may be tried again",
                    )
                )
            if not self.service.ready:
                response.headers["Connection"] = "close"  # the next request goes to another server
            self.service.metrics.replied(path, response.status_code, time.perf_counter() - started)
            return response

        return call

    async def body(self, request: Request, decoder: msgspec.json.Decoder[T]) -> T:
        """The body of a request, checked against its schema.

        Raises:
            Refusal: It is too large, not JSON, or not what was expected.
        """
        # a page of another site cannot send this type without being asked first, so it cannot speak for its reader
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal("not-json-type", f"expected a body of application/json, got {kind!r:.80}")
        raw = await self._read(request)
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise Refusal("bad-request", f"the body does not fit: {error}; see /openapi.json") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal("not-json", f"expected a body of JSON, got something else: {error}") from error

    def admin(self, request: Request) -> None:
        """Refuse whoever has no key to reload."""
        if not self.settings.admin_key:
            raise Refusal(
                "forbidden", "expected a server with an admin key to reload by HTTP, got one without; use SIGHUP"
            )
        self._key(request, self.settings.admin_key)

    def text(self, request: Request, name: str) -> str:
        """A parameter of the query, empty if it is not there.

        Raises:
            Refusal: It is longer than a key, or not UTF-8.
        """
        given = self._parameter(request, name, "")
        if len(given) > 512:
            raise Refusal("bad-request", f"expected {name} of at most 512 characters, got {len(given)}")
        return given

    def number(self, request: Request, name: str, default: int, most: int) -> int:
        """A parameter of the query, from 1 to ``most``.

        Raises:
            Refusal: It is none.
        """
        given = self._parameter(request, name, str(default))
        if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
            raise Refusal("bad-request", f"expected {name} in 1..{most}, got {given!r:.40}")
        return int(given)

    def _parameter(self, request: Request, name: str, default: str) -> str:
        """As it was sent. The framework would put other characters for bytes that are no text: another user's name, perhaps."""
        try:
            query = request.scope["query_string"].decode("ascii")
            return dict(parse_qsl(query, keep_blank_values=True, errors="strict")).get(name, default)
        except ValueError as error:
            raise Refusal("bad-request", "expected a query of UTF-8 text as %XX, got other bytes") from error

    async def no_such_path(self, request: Request, error: Exception) -> Response:
        """What the router refuses: other paths and methods."""
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return self._refused(
                Refusal("method-not-allowed", f"expected another method than {request.method}", headers=error.headers)
            )
        return self._refused(Refusal("not-found", "expected a path of /openapi.json, got another one"))

    async def _read(self, request: Request) -> bytes:
        most = self.settings.body_bytes
        told = request.headers.get("content-length", "0")
        if told.isdigit() and int(told) > most:
            raise self._large(told)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise self._large(f"more than {most}")
        return bytes(body)

    def _large(self, got: str) -> Refusal:
        return Refusal(
            "too-large",
            f"expected a body of at most {self.settings.body_bytes} bytes, got {got}; the server sets this by --body-bytes",
        )

    def _key(self, request: Request, *expected: str) -> None:
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

    def _refused(self, refused: Refusal) -> Response:
        self.service.metrics.refused.labels(refused.kind).inc()
        return Response(
            encoder.encode(refused.problem()), status_code=refused.status, media_type=MEDIA, headers=refused.headers
        )
