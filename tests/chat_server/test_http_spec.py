"""The OpenAPI document names every route, and is the one that is checked in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
from starlette.routing import Mount, Route, WebSocketRoute

from chat_server.app import create_app
from chat_server.errors import ERRORS
from chat_server.http_spec import openapi_json
from chat_server.settings import Settings
from chat_server.state import State

CHECKED_IN = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
DOCUMENT: Any = msgspec.json.decode(openapi_json())
NO_ROUTES = {"/api/{path}"}
"""What answers that there is nothing."""


def never_opened(settings: Settings) -> AbstractAsyncContextManager[State]:
    raise AssertionError("only the routes are looked at")


def routes() -> Iterator[tuple[str, str]]:
    for route in create_app(Settings(), never_opened).routes:
        if isinstance(route, Route):
            path = re.sub(r":\w+}", "}", route.path)
            for method in (route.methods or set()) - {"HEAD"}:
                if path not in NO_ROUTES:
                    yield method.lower(), path
        else:
            assert isinstance(route, Mount | WebSocketRoute)


def operations() -> Iterator[tuple[str, str, Any]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_the_document_that_is_checked_in_is_current() -> None:
    assert CHECKED_IN.read_bytes() == openapi_json(), (
        "python -m chat_server spec --http > docs/openapi.json"
    )


def test_every_route_of_the_server_is_in_it_and_nothing_else() -> None:
    assert {(method, path) for method, path, _ in operations()} == set(routes())


def test_every_reference_leads_to_a_schema_and_every_schema_is_one() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', openapi_json().decode()))
    assert named <= set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_operations_have_names_of_their_own_and_what_openapi_demands() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    schemes = set(DOCUMENT["components"]["securitySchemes"])
    for _, path, operation in operations():
        in_path = {
            parameter["name"]
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "path"
        }
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert operation["responses"]
        assert all(answer["description"] for answer in operation["responses"].values())
        assert {name for way in operation["security"] for name in way} <= schemes


def test_errors_stand_under_the_status_that_their_code_has() -> None:
    for _, path, operation in operations():
        for status, answer in operation["responses"].items():
            for code in re.findall(r"`(\w+)`", answer["description"]):
                kind = ERRORS[code]
                assert str(kind.status) == status, (path, code)


def test_what_needs_a_session_says_so() -> None:
    for _, path, operation in operations():
        if path.startswith("/api/") and path not in {"/api/session", "/api/erasures/{erasure}"}:
            assert {"session": []} in operation["security"], path
        if path.startswith("/admin"):
            assert operation["security"] == [{"admin": []}], path
