from __future__ import annotations

import socket

import pytest

from chat_server.client_errors import ServerError, Unreachable
from chat_server.client_http import HttpApi
from tests.chat_server.scripted_server import scripted_server

ERROR = {"code": "rate_limited", "message": "wait", "retryable": True, "retry_after_ms": 1500}


async def test_a_refusal_carries_all_that_the_server_says() -> None:
    async with scripted_server() as server, HttpApi(server.url, "token") as http:
        server.answers["/api/search"] = (429, {"error": ERROR})
        with pytest.raises(ServerError) as refusal:
            await http.search("dog", limit=3)
        assert server.asked == ["/api/search?q=dog&k=3"]
    facts = refusal.value
    assert (facts.code, facts.message, facts.retryable) == ("rate_limited", "wait", True)
    assert facts.retry_after_ms == 1500


@pytest.mark.parametrize(("status", "retryable"), [(502, True), (429, True), (403, False)])
async def test_the_word_of_a_proxy_is_understood_by_its_status(
    status: int, *, retryable: bool
) -> None:
    async with scripted_server() as server, HttpApi(server.url, "token") as http:
        server.answers["/api/conversations"] = (status, {"page": "of a proxy"})
        with pytest.raises(ServerError) as refusal:
            await http.conversations(limit=1)
    assert refusal.value.retryable == retryable
    assert str(status) in refusal.value.message


async def test_an_answer_of_something_else_is_an_error() -> None:
    async with scripted_server() as server, HttpApi(server.url, "token") as http:
        server.answers["/api/conversations"] = (200, {"weather": "fine"})
        with pytest.raises(ServerError, match="no answer of Tandem"):
            await http.conversations(limit=1)


async def test_an_id_cannot_leave_its_place_in_the_path() -> None:
    async with scripted_server() as server, HttpApi(server.url, "token") as http:
        with pytest.raises(ServerError):
            await http.messages("../me?x=/#", limit=1)
        assert server.asked == ["/api/conversations/..%2Fme%3Fx%3D%2F%23/messages?limit=1"]


async def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with HttpApi(f"http://127.0.0.1:{port}", None) as http:
        with pytest.raises(Unreachable, match=str(port)):
            await http.session()
