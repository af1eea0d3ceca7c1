"""``/asyncapi.json`` and ``/openapi.json``: what can be said to this server, for machines."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chat_server.http_spec import openapi_json
from chat_server.protocol_spec import asyncapi_json

_HEADERS: Final = {"Cache-Control": "public, max-age=3600"}


async def asyncapi(_request: Request) -> Response:
    """The WebSocket protocol."""
    return Response(asyncapi_json(), headers=_HEADERS, media_type="application/json")


async def openapi(_request: Request) -> Response:
    """The HTTP routes."""
    return Response(openapi_json(), headers=_HEADERS, media_type="application/json")


def spec_routes() -> list[Route]:
    """The routes; open to all, and made once for each process that is asked."""
    return [Route("/asyncapi.json", asyncapi), Route("/openapi.json", openapi)]
