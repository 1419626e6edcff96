"""The OpenAPI description of the server, from the schemas of its bodies."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from leanrec.server.problems import MEDIA, STATUS
from leanrec.server.schemas import components

BODY = ("not-json", "too-large", "not-json-type", "bad-request", "over-limit", "unknown-item")
QUEUE = ("overloaded", "deadline")
STORE = ("sessions-unavailable", "unknown-user")
ANY = ("unauthorized", "internal", "not-http", "slow", "headers-too-large", "crowded")


def described() -> dict[str, Any]:
    """The document of /openapi.json."""
    one, many = _ref("Answer"), {"type": "array", "items": _ref("Answer")}
    user = _query("user", {"type": "string", "minLength": 1, "maxLength": 512}, required=True)
    search = [
        _query("q", {"type": "string", "maxLength": 512}),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "leanrec", "version": version("leanrec"), "description": "Recommendations at a stated cost."},
        "paths": {
            "/v1/recommend": {
                "post": _operation(
                    "Recommend to one user, or to many",
                    {"oneOf": [one, many]},
                    (*BODY, *QUEUE, *STORE),
                    body="Recommend",
                )
            },
            "/v1/events": {
                "post": _operation(
                    "Add events to a user's history", _ref("Accepted"), (*BODY, *STORE[:1]), body="Events"
                ),
                "delete": _operation("Forget a user", None, ("bad-request", *STORE[:1]), [user]),
            },
            "/v1/items": {"get": _operation("Search items", _ref("Found"), ("bad-request", *QUEUE), search)},
            "/v1/model": {"get": _operation("What is served", _ref("Model"), ())},
            "/v1/reload": {
                "post": _operation(
                    "Serve another run or export, with the admin key",
                    _ref("Model"),
                    ("forbidden", "reload-failed", *BODY[:4]),
                    body="Reload",
                )
            },
            "/healthz": {"get": _operation("Whether the process is alive", _ref("State"), (), secured=False)},
            "/readyz": {"get": _operation("Whether requests are taken", _ref("State"), ("draining",), secured=False)},
            "/metrics": {
                "get": {
                    "summary": "For Prometheus",
                    "security": [],
                    "responses": {
                        "200": {"description": "Text", "content": {"text/plain": {"schema": {"type": "string"}}}}
                    },
                }
            },
        },
        "components": {
            "schemas": components(),
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(
    summary: str,
    answer: dict[str, Any] | None,
    problems: tuple[str, ...],
    parameters: list[dict[str, Any]] | None = None,
    body: str = "",
    secured: bool = True,
) -> dict[str, Any]:
    replies: dict[str, Any] = {"204": {"description": "Done"}}
    if answer is not None:
        replies = {"200": {"description": "Done", "content": {"application/json": {"schema": answer}}}}
    for kind in (*problems, *(ANY if secured else ANY[1:])):
        reply = replies.setdefault(
            str(STATUS[kind]), {"description": "", "content": {MEDIA: {"schema": _ref("Problem")}}}
        )
        reply["description"] = ", ".join(filter(None, (reply["description"], kind)))
    operation: dict[str, Any] = {"summary": summary, "responses": replies}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    if not secured:
        operation["security"] = []
    return operation


def _query(name: str, schema: dict[str, Any], required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
