"""The paths of the server: HTTP in, `Service` inside, JSON out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from leanrec.server import metrics, schemas
from leanrec.server.endpoint import HASTY, Door, Handler, reply
from leanrec.server.openapi import described
from leanrec.server.problems import Refusal
from leanrec.server.service import Service

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
SAFE = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
FOUND = 20
"""Items that a search finds unless another number is asked for."""
MOST_FOUND = 100

recommend_body = msgspec.json.Decoder(schemas.Recommend)
events_body = msgspec.json.Decoder(schemas.Events)
reload_body = msgspec.json.Decoder(schemas.Reload)


class Straight:
    """Takes requests to known paths and methods straight to their handlers; the routing of a framework costs more than they do.

    Args:
        handlers: By method and path; none of them raises.
        others: Whatever else there is: the lifespan, paths and methods that there are not.
    """

    def __init__(self, handlers: Mapping[tuple[str, str], Handler], others: ASGIApp) -> None:
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

    door, document = Door(service), msgspec.json.encode(described())

    async def recommend(request: Request) -> Response:
        hasty = request.scope.get(HASTY, False)
        return reply(await service.recommend(await door.body(request, recommend_body), hasty))

    async def events(request: Request) -> Response:
        return reply(await service.events(await door.body(request, events_body)))

    async def forget(request: Request) -> Response:
        user = door.text(request, "user")
        if not user:
            raise Refusal("bad-request", "expected a user to forget, got none; name one with ?user=")
        await service.forget(user)
        return Response(status_code=204)

    async def items(request: Request) -> Response:
        limit = door.number(request, "limit", FOUND, MOST_FOUND)
        return reply(await service.items(door.text(request, "q"), limit))

    async def model(request: Request) -> Response:
        return reply(service.model())

    async def reload(request: Request) -> Response:
        door.admin(request)
        body = await door.body(request, reload_body)
        await service.reload(Path(body.path) if body.path else None)
        return reply(service.model())

    async def healthz(request: Request) -> Response:
        return reply(schemas.State("alive"))

    async def readyz(request: Request) -> Response:
        if not service.ready:
            raise Refusal(
                "draining", "expected a server that takes requests, got one that starts or stops; ask another one"
            )
        return reply(schemas.State("ready"))

    async def show_metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type=metrics.MEDIA)

    async def openapi(request: Request) -> Response:
        return Response(document, media_type="application/json")

    handlers = {
        ("POST", "/v1/recommend"): recommend,
        ("POST", "/v1/events"): events,
        ("DELETE", "/v1/events"): forget,
        ("GET", "/v1/items"): items,
        ("GET", "/v1/model"): model,
        ("POST", "/v1/reload"): reload,
        ("GET", "/healthz"): healthz,
        ("GET", "/readyz"): readyz,
        ("GET", "/metrics"): show_metrics,
        ("GET", "/openapi.json"): openapi,
        **{("GET", path): _file(*file) for path, file in PAGE.items()},
    }
    behind = {(method, path): door.of(path, handler) for (method, path), handler in handlers.items()}
    routes = [Route(path, handler, methods=[method]) for (method, path), handler in behind.items()]
    refused = {HTTPException: door.no_such_path}
    return Straight(behind, Starlette(routes=routes, lifespan=lifespan, exception_handlers=refused))


def _file(name: str, media: str) -> Handler:
    content = (resources.files("leanrec.server") / "page" / name).read_bytes()

    async def show(request: Request) -> Response:
        return Response(content, media_type=media, headers=SAFE)

    return show
