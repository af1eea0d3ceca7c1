"""The HTTP routes for machines: an OpenAPI 3.1 document, made from the types of the bodies."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Final

import msgspec

from chat_server.authentication import COOKIE
from chat_server.errors import ERRORS, ErrorCode
from chat_server.http_operations import JSON, OPERATIONS, Access, ErrorBody, Operation
from chat_server.json_schemas import schemas_of
from chat_server.protocol import VERSION

ACCESS: Final[Mapping[Access, list[dict[str, list[str]]]]] = {
    "open": [],
    "session": [{"session": []}, {"cookie": []}],
    "admin": [{"admin": []}],
    "local": [{}, {"admin": []}],
}

_SCHEMES: Final = {
    "session": {"type": "http", "scheme": "bearer", "description": "a token of a session"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    "admin": {"type": "http", "scheme": "bearer", "description": "the admin token"},
}

SchemaOf = Mapping[Hashable, object]
"""The schema of each type."""

_placeholder: Final = re.compile(r"{(\w+)}")


@cache
def openapi_json() -> bytes:
    """The document as it is served and printed."""
    return msgspec.json.format(msgspec.json.encode(openapi()), indent=2) + b"\n"


def openapi() -> dict[str, object]:
    """The document: every route but the page's own files and the socket."""
    kinds = list(dict.fromkeys(_kinds()))
    references, schemas = schemas_of(kinds)
    schema_of = dict(zip(kinds, references, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        there = paths.setdefault(operation.path, {})
        there[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tandem",
            "version": str(VERSION),
            "description": "What is not live. What is goes over /ws: /asyncapi.json.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SCHEMES},
    }


def _kinds() -> Iterator[Hashable]:
    yield ErrorBody
    for operation in OPERATIONS:
        yield from operation.answers
        if operation.body is not None:
            yield operation.body
        yield from (parameter.kind for parameter in operation.parameters)


def _operation(operation: Operation, schema_of: SchemaOf) -> dict[str, object]:
    described: dict[str, object] = {
        "operationId": _name(operation),
        "summary": operation.summary,
        "security": ACCESS[operation.access],
        "responses": _responses(operation, schema_of),
    }
    if parameters := _parameters(operation, schema_of):
        described["parameters"] = parameters
    if operation.body is not None:
        content = {operation.body_media: {"schema": schema_of[operation.body]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _name(operation: Operation) -> str:
    words = re.findall(r"[a-z]+", operation.path.removeprefix("/api"))
    return "_".join((operation.method.lower(), *words))


def _parameters(operation: Operation, schema_of: SchemaOf) -> list[dict[str, object]]:
    of_path: list[dict[str, object]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _placeholder.findall(operation.path)
    ]
    of_query: list[dict[str, object]] = [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.meaning,
            "schema": schema_of[parameter.kind],
        }
        for parameter in operation.parameters
    ]
    return of_path + of_query


def _responses(operation: Operation, schema_of: SchemaOf) -> dict[str, object]:
    answers = [schema_of[kind] for kind in operation.answers]
    schema = answers[0] if len(answers) == 1 else {"anyOf": answers} if answers else {}
    content = {operation.media: {"schema": schema}}
    responses: dict[str, object] = {
        str(operation.status): {
            "description": HTTPStatus(operation.status).phrase,
            "content": content,
        }
    }
    told: dict[str, list[ErrorCode]] = {}
    for code in _codes(operation):
        told.setdefault(str(ERRORS[code].status), []).append(code)
    error = {"content": {JSON: {"schema": schema_of[ErrorBody]}}}
    for status, codes in sorted(told.items()):
        responses[status] = {"description": ", ".join(f"`{code}`" for code in codes)} | error
    responses["default"] = {"description": "any other error"} | error
    return responses


def _codes(operation: Operation) -> Iterator[ErrorCode]:
    yield from operation.errors
    if operation.access == "session":
        yield from ("not_authenticated", "forbidden")
    elif operation.access != "open":
        yield "not_authenticated"
