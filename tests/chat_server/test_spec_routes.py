from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette

from chat_server.http_spec import openapi_json
from chat_server.protocol_spec import asyncapi_json
from chat_server.spec_routes import spec_routes


@pytest.mark.parametrize(
    ("path", "document"), [("/asyncapi.json", asyncapi_json()), ("/openapi.json", openapi_json())]
)
async def test_a_document_is_served_and_may_be_kept(path: str, document: bytes) -> None:
    transport = httpx.ASGITransport(Starlette(routes=[*spec_routes()]))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert "max-age" in answer.headers["cache-control"]
    assert answer.content == document
