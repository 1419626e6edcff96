"""The OpenAPI description of the server, made from the same table of operations as the application."""

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
class Operation:
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


def described(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document of /openapi.json."""
    operations = tuple(operations)
    types = {one: None for o in operations for one in (o.body, o.answer) if one is not None} | {Problem: None}
    found, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(types, found, strict=True))
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schemas)
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


def _described(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    replies: dict[str, Any] = {"204": {"description": "Done"}}
    if operation.answer is not None:
        replies = {"200": {"description": "Done", "content": {operation.media: {"schema": schemas[operation.answer]}}}}
    guard = ("unauthorized",) if operation.guarded else ()
    for kind in (*operation.problems, *guard, *_EVERYWHERE):
        problem = {"description": "", "content": {PROBLEM_MEDIA: {"schema": schemas[Problem]}}}
        reply = replies.setdefault(str(STATUS[kind]), problem)
        reply["description"] = ", ".join(filter(None, (reply["description"], kind)))
    found: dict[str, Any] = {"summary": operation.summary, "responses": replies}
    if operation.query:
        found["parameters"] = list(operation.query)
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[operation.body]}}}
    if not operation.guarded:
        found["security"] = []
    return found
