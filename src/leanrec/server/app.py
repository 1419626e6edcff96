"""The paths of the server: HTTP in, `Service` inside, JSON out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from leanrec.server import metrics, schemas
from leanrec.server.endpoint import Door, reply
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


def make_app(service: Service) -> FastAPI:
    """The application around a service, which it readies on start and closes at the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.open()
        yield
        await service.close()

    app = FastAPI(title="leanrec", docs_url=None, redoc_url=None, lifespan=lifespan)
    door = Door(service)

    async def recommend(request: Request) -> Response:
        return reply(await service.recommend(await door.body(request, recommend_body)))

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
        return reply(await asyncio.to_thread(service.items, door.text(request, "q"), limit))

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

    for path, method, handler in (
        ("/v1/recommend", "POST", recommend),
        ("/v1/events", "POST", events),
        ("/v1/events", "DELETE", forget),
        ("/v1/items", "GET", items),
        ("/v1/model", "GET", model),
        ("/v1/reload", "POST", reload),
        ("/healthz", "GET", healthz),
        ("/readyz", "GET", readyz),
        ("/metrics", "GET", show_metrics),
    ):
        app.add_api_route(path, door.of(path, handler), methods=[method], include_in_schema=False)
    for path, (name, media) in PAGE.items():
        app.add_api_route(path, _file(name, media), methods=["GET"], include_in_schema=False)
    app.add_exception_handler(HTTPException, door.no_such_path)
    document = described()
    app.openapi = lambda: document
    return app


def _file(name: str, media: str) -> Any:
    content = (resources.files("leanrec.server") / "page" / name).read_bytes()

    async def show(request: Request) -> Response:
        return Response(content, media_type=media, headers=SAFE)

    return show
