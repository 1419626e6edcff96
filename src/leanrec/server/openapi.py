"""The OpenAPI description of the server, made from the same table of endpoints as the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from leanrec.server.problems import PROBLEM_MEDIA, STATUS, Problem
from leanrec.server.service import Service

Handler = Callable[[Service, Request], Awaitable[Response]]
_EVERYWHERE = ("internal", "not-http", "slow", "headers-too-large", "crowded")
"""Problems that every request may meet."""


@dataclass(frozen=True)
class Endpoint:
    """A method of a path, what it does, and what is said about it.

    Attributes:
        method: Of HTTP.
        path: From the root.
        handler: Answers a request; may raise `Refusal` and `LeanrecError`.
        summary: What it does, in a few words.
        answer: Type of the reply; None for an empty one.
        problems: Types of problems, beside those that every request may meet.
        body: Type of the request's body; None if there is none.
        query: Parameters of the query, as OpenAPI writes them.
        media: Media type of the reply.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any = None
    problems: tuple[str, ...] = ()
    body: type[msgspec.Struct] | None = None
    query: tuple[dict[str, Any], ...] = ()
    media: str = "application/json"

    @property
    def guarded(self) -> bool:
        """Whether the server's key is wanted, if there is one."""
        return self.path.startswith("/v1/")


def query_parameter(name: str, schema: dict[str, Any], required: bool = False) -> dict[str, Any]:
    """A parameter of the query, as OpenAPI writes it."""
    return {"name": name, "in": "query", "required": required, "schema": schema}


def described(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document of /openapi.json."""
    endpoints = tuple(endpoints)
    types = {one: None for o in endpoints for one in (o.body, o.answer) if one is not None} | {Problem: None}
    found, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(types, found, strict=True))
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _described(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "leanrec", "version": version("leanrec"), "description": "Recommendations at a stated cost."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
        "security": [{}, {"key": []}],
    }


def _described(endpoint: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    replies: dict[str, Any] = {"204": {"description": "Done"}}
    if endpoint.answer is not None:
        replies = {"200": {"description": "Done", "content": {endpoint.media: {"schema": schemas[endpoint.answer]}}}}
    guard = ("unauthorized",) if endpoint.guarded else ()
    for kind in (*endpoint.problems, *guard, *_EVERYWHERE):
        problem = {"description": "", "content": {PROBLEM_MEDIA: {"schema": schemas[Problem]}}}
        reply = replies.setdefault(str(STATUS[kind]), problem)
        reply["description"] = ", ".join(filter(None, (reply["description"], kind)))
    found: dict[str, Any] = {"summary": endpoint.summary, "responses": replies}
    if endpoint.query:
        found["parameters"] = list(endpoint.query)
    if endpoint.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[endpoint.body]}}}
    if not endpoint.guarded:
        found["security"] = []
    return found
