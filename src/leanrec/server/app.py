"""The application: which path does what, and what every path does first and last.

HTTP comes in, `Service` answers, JSON goes out. `ENDPOINTS` is the one table of paths; /openapi.json is made from it, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from leanrec.core.errors import LeanrecError
from leanrec.server import schemas
from leanrec.server.metrics import METRICS_MEDIA
from leanrec.server.openapi import Endpoint, Handler, described, query_parameter
from leanrec.server.problems import PROBLEM_MEDIA, Refusal, refusal
from leanrec.server.reading import check_admin_key, check_key, number_parameter, read_body, text_parameter
from leanrec.server.service import Service

HASTY, REFUSED = "leanrec.hasty", "leanrec.refused"
"""Keys of a request's scope: whether its client asks sooner than it was told to, and whether it was told to wait."""
_Call = Callable[[Request], Awaitable[Response]]
_FOUND, _MOST_FOUND = 20, 100
"""Items that a search finds unless another number is asked for, and at most."""
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_log = logging.getLogger("leanrec.server")
_encoder = msgspec.json.Encoder()


async def recommend(service: Service, request: Request) -> Response:
    """Answer one user, or many with a list."""
    body = await read_body(request, service.settings, schemas.Recommend)
    return _json(await service.recommend(body, request.scope.get(HASTY, False)))


async def add_events(service: Service, request: Request) -> Response:
    """Store events, and answer with what may follow."""
    return _json(await service.events(await read_body(request, service.settings, schemas.AddEvents)))


async def forget(service: Service, request: Request) -> Response:
    """Drop what is known of a user."""
    user = text_parameter(request, "user")
    if not user:
        raise Refusal("bad-request", "expected a user to forget, got none; name one with ?user=")
    await service.forget(user)
    return Response(status_code=204)


async def search_items(service: Service, request: Request) -> Response:
    """Items by words of their titles."""
    limit = number_parameter(request, "limit", _FOUND, _MOST_FOUND)
    return _json(await service.items(text_parameter(request, "q"), limit))


async def show_model(service: Service, request: Request) -> Response:
    """What is served."""
    return _json(service.model())


async def reload(service: Service, request: Request) -> Response:
    """Serve another run or export, or compare it with the one that is served."""
    check_admin_key(request, service.settings)
    await service.models.change(await read_body(request, service.settings, schemas.Reload))
    return _json(service.model())


async def healthz(service: Service, request: Request) -> Response:
    """Whether the process is alive."""
    return _json(schemas.Health("alive"))


async def readyz(service: Service, request: Request) -> Response:
    """Whether requests are taken."""
    if not service.ready:
        raise Refusal(
            "draining", "expected a server that takes requests, got one that starts or stops; ask another one"
        )
    return _json(schemas.Health("ready"))


async def show_metrics(service: Service, request: Request) -> Response:
    """For Prometheus."""
    return Response(service.metrics.text(), media_type=METRICS_MEDIA)


_BODY = ("not-json", "too-large", "not-json-type", "bad-request")
_ITEMS = ("over-limit", "unknown-item")
_QUEUE = ("overloaded", "deadline")
_USER = query_parameter("user", {"type": "string", "minLength": 1, "maxLength": schemas.KEY_LENGTH}, required=True)
_SEARCH = (
    query_parameter("q", {"type": "string", "maxLength": schemas.KEY_LENGTH}),
    query_parameter("limit", {"type": "integer", "minimum": 1, "maximum": _MOST_FOUND, "default": _FOUND}),
)
ENDPOINTS = (
    Endpoint("POST", "/v1/recommend", recommend, "Recommend to one user, or to many",
              schemas.Answer | list[schemas.InPlace],
              (*_BODY, *_ITEMS, *_QUEUE, "sessions-unavailable", "unknown-user"), schemas.Recommend),
    Endpoint("POST", "/v1/events", add_events, "Add events to a user's history", schemas.Accepted,
              (*_BODY, *_ITEMS, "sessions-unavailable"), schemas.AddEvents),
    Endpoint("DELETE", "/v1/events", forget, "Forget a user", None,
              ("bad-request", "sessions-unavailable"), query=(_USER,)),
    Endpoint("GET", "/v1/items", search_items, "Search items", schemas.Found,
              ("bad-request", *_QUEUE), query=_SEARCH),
    Endpoint("GET", "/v1/model", show_model, "What is served", schemas.Model),
    Endpoint("POST", "/v1/reload", reload, "Serve another run or export, or compare it, with the admin key", schemas.Model,
              ("forbidden", "reload-failed", *_BODY), schemas.Reload),
    Endpoint("GET", "/healthz", healthz, "Whether the process is alive", schemas.Health),
    Endpoint("GET", "/readyz", readyz, "Whether requests are taken", schemas.Health, ("draining",)),
    Endpoint("GET", "/metrics", show_metrics, "For Prometheus", str, media="text/plain"),
)  # fmt: skip
"""All paths but those of the page and /openapi.json."""


class Dispatcher:
    """Takes requests to known paths and methods straight to their handlers; Starlette's routing costs more than they do.

    Args:
        handlers: By method and path; none of them raises.
        others: Takes whatever else there is: the lifespan, unknown paths and methods.
    """

    def __init__(self, handlers: Mapping[tuple[str, str], _Call], others: ASGIApp) -> None:
        self._handlers, self._others = handlers, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request."""
        handler = self._handlers.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if handler is None:
            await self._others(scope, receive, send)
            return
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)


def make_app(service: Service) -> ASGIApp:
    """The application around a service, which it opens on start and closes at the end."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.open()
        yield
        await service.close()

    async def no_such_path(request: Request, error: Exception) -> Response:
        return _refused(service, _unknown(request, error))

    document = msgspec.json.encode(described(ENDPOINTS))
    handlers = {(o.method, o.path): _answering(service, o.path, o.handler, o.guarded) for o in ENDPOINTS}
    files = {path: _file(*file) for path, file in _PAGE.items()} | {
        "/openapi.json": _content(document, "application/json")
    }
    handlers |= {("GET", path): _answering(service, path, handler) for path, handler in files.items()}
    routes = [Route(path, handler, methods=[method]) for (method, path), handler in handlers.items()]
    return Dispatcher(
        handlers, Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: no_such_path})
    )


def _answering(service: Service, path: str, handler: Handler, guarded: bool = False) -> _Call:
    """A handler that raises nothing: the key is checked first, and whatever goes wrong becomes problem details."""
    keys = (service.settings.api_key, service.settings.admin_key) if guarded and service.settings.api_key else ()

    async def call(request: Request) -> Response:
        started = time.perf_counter()
        try:
            if keys:
                check_key(request, *keys)
            response = await handler(service, request)
        except Refusal as refused:
            request.scope[REFUSED] = "Retry-After" in refused.headers
            response = _refused(service, refused)
        except LeanrecError as error:
            response = _refused(service, refusal(error))
        except ClientDisconnect:
            response = Response(status_code=400)  # nobody is there to read it
        except Exception:
            _log.exception("a fault of leanrec at %s", path)
            detail = "a fault of leanrec; the log of the server says more, the request may be tried again"
            response = _refused(service, Refusal("internal", detail))
        if not service.ready:
            response.headers["Connection"] = "close"  # the next request goes to another server
        service.metrics.replied(path, response.status_code, time.perf_counter() - started)
        return response

    return call


def _unknown(request: Request, error: Exception) -> Refusal:
    """What Starlette's router refuses: other paths and methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return Refusal("method-not-allowed", f"expected another method than {request.method}", headers=error.headers)
    return Refusal("not-found", "expected a path of /openapi.json, got another one")


def _refused(service: Service, refused: Refusal) -> Response:
    service.metrics.refused.labels(refused.kind).inc()
    content = _encoder.encode(refused.problem())
    return Response(content, status_code=refused.status, media_type=PROBLEM_MEDIA, headers=refused.headers)


def _json(content: Any) -> Response:
    return Response(_encoder.encode(content), media_type="application/json")


def _file(name: str, media: str) -> Handler:
    return _content((resources.files("leanrec.server") / "page" / name).read_bytes(), media, _PAGE_HEADERS)


def _content(content: bytes, media: str, headers: Mapping[str, str] | None = None) -> Handler:
    async def show(service: Service, request: Request) -> Response:
        return Response(content, media_type=media, headers=headers)

    return show
