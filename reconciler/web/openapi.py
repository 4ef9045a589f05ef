"""The OpenAPI document of the HTTP interface. A test compares every answer with it (schemathesis)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from reconciler.status import Status
from reconciler.web.answers import (
    ErrorAnswer,
    HoldAnswer,
    Readiness,
    ResyncAnswer,
    ServiceDetail,
    ServicePage,
)
from reconciler.web.backend import Check
from reconciler.web.reading import (
    LARGEST_ID,
    LARGEST_PAGE,
    LARGEST_PAGE_SIZE,
    LONGEST_QUERY,
    LONGEST_REASON,
    LONGEST_WAIT_SECONDS,
    PAGE_SIZE,
    QUERY_PATTERN,
    REASON_PATTERN,
)
from reconciler.web.schemas import describe_type
from states import ServiceState

_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}
_JSON: Final = "application/json"

_ERRORS: Final = {
    400: "A parameter or the body is wrong; the message names it.",
    401: "The token is missing or wrong.",
    403: "No token is configured, or the Host header names another machine.",
    404: "There is no such service.",
    409: "There is nothing to release.",
    413: "The body is too large.",
    415: "The body's type is not application/json.",
    500: "A defect of the program; its log says more.",
    503: "Journal or billing cannot be used; the message says why.",
}
_ALWAYS: Final = (401, 403, 500, 503)
_CHANGE: Final = (400, 404, 413, 415)

_ID: Final = {"type": "integer", "format": "int64", "minimum": 1, "maximum": LARGEST_ID}


class _Builder:
    """Collects operations and the schemas that they name."""

    def __init__(self, *, is_loopback: bool) -> None:
        self._is_loopback: Final = is_loopback
        self.schemas: Final[dict[str, Any]] = {}

    def describe_json(self, kind: Any) -> dict[str, Any]:
        return {_JSON: {"schema": describe_type(kind, self.schemas)}}

    def describe_operation(
        self,
        name: str,
        summary: str,
        answers: Mapping[int, tuple[str, dict[str, Any]]],
        errors: Sequence[int] = (),
        *,
        parameters: Sequence[dict[str, Any]] = (),
        body: dict[str, Any] | None = None,
        is_change: bool = False,
    ) -> dict[str, Any]:
        """One operation; ``answers`` are those that are no errors, with what they hold."""
        failure = self.describe_json(ErrorAnswer)
        codes = {*_ALWAYS, *errors, *(_CHANGE if is_change else ())} - answers.keys()
        responses = {code: (_ERRORS[code], failure) for code in codes} | dict(answers)
        bearer: list[dict[str, list[str]]] = [{"bearer": []}]
        is_open = self._is_loopback and not is_change
        operation = {
            "operationId": name,
            "summary": summary,
            "parameters": list(parameters),
            "security": [{}, *bearer] if is_open else bearer,
            "responses": {
                str(code): {"description": text, "content": content}
                for code, (text, content) in sorted(responses.items())
            },
        }
        return operation if body is None else operation | {"requestBody": body}


def describe_api(*, is_loopback: bool) -> dict[str, Any]:
    """The document, for a server that only this machine can reach, or for one that others can."""
    build = _Builder(is_loopback=is_loopback)
    paths = {**_describe_plain(build), **_describe_reading(build), **_describe_changes(build)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bill-nextcloud reconciler",
            "version": "1",
            "description": "Status of the services that BILLmanager sold, and what operators may ask for.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(build.schemas.items())),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "What the file named in [http] token_file holds.",
                }
            },
        },
    }


def list_endpoints(api: dict[str, Any]) -> str:
    """The operations of a document, as lines of plain text."""
    rows = [
        (method.upper(), path, operation["summary"])
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
    ]
    width = max(len(path) for _, path, _ in rows)
    lines = [f"{method:4}  {path:{width}}  {summary}" for method, path, summary in rows]
    return "\n".join([api["info"]["title"], "", *lines, ""])


def _describe_plain(build: _Builder) -> dict[str, Any]:
    health, readiness = build.describe_json(Check), build.describe_json(Readiness)
    document = {_JSON: {"schema": {"type": "object"}}}
    return {
        "/": {
            "get": build.describe_operation("show_overview", "These lines", {200: ("The endpoints.", _TEXT)})
        },
        "/metrics": {
            "get": build.describe_operation(
                "show_metrics", "Metrics for Prometheus", {200: ("Text format 0.0.4.", _TEXT)}
            )
        },
        "/healthz": {
            "get": build.describe_operation(
                "show_health",
                "Whether the loop turns",
                {200: ("It does.", health), 503: ("It does not: restart the daemon.", health)},
            )
        },
        "/readyz": {
            "get": build.describe_operation(
                "show_readiness",
                "Whether billing, journal and servers can be used",
                {200: ("They can.", readiness), 503: ("One cannot; its message says why.", readiness)},
            )
        },
        "/api/v1/openapi.json": {
            "get": build.describe_operation("show_api", "This interface as OpenAPI", {200: ("It.", document)})
        },
    }


def _describe_reading(build: _Builder) -> dict[str, Any]:
    size = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE_SIZE, "default": PAGE_SIZE}
    selection = [
        _describe_parameter("state", "only services in this state", describe_type(ServiceState, {})),
        _describe_parameter("server", "only services of this server (processingmodule)", _ID),
        _describe_parameter(
            "q",
            "only the service with this number, and those whose account's name begins so (without case)",
            {"type": "string", "maxLength": LONGEST_QUERY, "pattern": QUERY_PATTERN},
        ),
        _describe_parameter(
            "page", "from 1", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": 1}
        ),
        _describe_parameter("page_size", "services a page", size),
    ]
    return {
        "/api/v1/status": {
            "get": build.describe_operation(
                "show_status",
                "Servers, guards, counts by state, what needs a person",
                {200: ("How everything stands.", build.describe_json(Status))},
            )
        },
        "/api/v1/services": {
            "get": build.describe_operation(
                "list_services",
                "Services, page by page",
                {200: ("A page.", build.describe_json(ServicePage))},
                [400],
                parameters=selection,
            )
        },
        "/api/v1/services/{item}": {
            "get": build.describe_operation(
                "show_service",
                "One service with its usage and its latest history",
                {200: ("The service.", build.describe_json(ServiceDetail))},
                [400, 404],
                parameters=[_ITEM],
            )
        },
    }


def _describe_changes(build: _Builder) -> dict[str, Any]:
    wait = {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS, "default": 0}
    resync, hold = build.describe_json(ResyncAnswer), build.describe_json(HoldAnswer)
    reason = {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_REASON,
        "pattern": REASON_PATTERN,
        "description": "shown wherever the service is shown",
        "examples": ["the customer is moving his data"],
    }
    return {
        "/api/v1/services/{item}/resync": {
            "post": build.describe_operation(
                "resync",
                "Look at a service now and repair it",
                {200: ("It was done.", resync), 202: ("It was asked for.", resync)},
                parameters=[_ITEM, _describe_parameter("wait", "seconds to wait for its end", wait)],
                body=_describe_body({}, is_required=False),
                is_change=True,
            )
        },
        "/api/v1/services/{item}/hold": {
            "post": build.describe_operation(
                "hold",
                "Leave a service alone until it is released",
                {200: ("It is held.", hold)},
                parameters=[_ITEM],
                body=_describe_body({"reason": reason}, is_required=True),
                is_change=True,
            )
        },
        "/api/v1/services/{item}/release": {
            "post": build.describe_operation(
                "release",
                "End a service's hold or quarantine",
                {200: ("It is released.", hold)},
                [409],
                parameters=[_ITEM],
                body=_describe_body({}, is_required=False),
                is_change=True,
            )
        },
    }


_ITEM: Final = {
    "name": "item",
    "in": "path",
    "required": True,
    "description": "BILLmanager's number of the service",
    "schema": _ID,
    "example": 1,
}


def _describe_parameter(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _describe_body(members: dict[str, Any], *, is_required: bool) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }
    return {"required": is_required, "content": {_JSON: {"schema": schema}}}
