"""Frames and requests that nobody should send."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.bot import bot
from tests.integration.running_server import RunningServer

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]


async def first_answer(url: str, *frames: str | bytes) -> tuple[dict[str, Any] | None, int]:
    """What a fresh connection is told for *frames*, and the close code that follows."""
    async with connect(url.replace("http", "ws", 1) + "/ws", max_size=None) as socket:
        told = None
        try:
            for frame in frames:
                await socket.send(frame)
            told = json.loads(await socket.recv())
            await socket.wait_closed()
        except ConnectionClosed:
            pass
        assert socket.close_code is not None
        return told, socket.close_code


async def test_bad_frames_are_refused_by_field_and_the_socket_stays_open(
    server: RunningServer,
) -> None:
    corpus: list[tuple[str, str, str | None]] = [
        ("{", "bad_frame", None),
        ("[]", "bad_frame", None),
        ("null", "bad_frame", None),
        ("3", "bad_frame", None),
        ("{}", "bad_frame", "type"),
        ('{"type": 5}', "bad_frame", "type"),
        ('{"type": "send", "text": "x"}', "bad_frame", "id"),
        ('{"type": "send", "id": "", "text": "x"}', "bad_frame", "id"),
        ('{"type": "send", "id": "a b", "text": "x"}', "bad_frame", "id"),
        ('{"type": "send", "id": "' + "x" * 65 + '", "text": "x"}', "bad_frame", "id"),
        ('{"type": "send", "id": "a"}', "bad_frame", "text"),
        ('{"type": "send", "id": "a", "text": 7}', "bad_frame", "text"),
        (
            '{"type": "send", "id": "a", "text": "x", "conversation": "../x"}',
            "bad_frame",
            "conversation",
        ),
        (
            '{"type": "send", "id": "a", "text": "x", "options": {"memory": 1}}',
            "bad_frame",
            "options.memory",
        ),
        ('{"type": "send", "id": "a", "text": ""}', "empty_text", "text"),
        ('{"type": "send", "id": "a", "text": " \\n\\t "}', "empty_text", "text"),
        (json.dumps({"type": "send", "id": "a", "text": "é" * 6001}), "text_too_long", "text"),
        ('{"type": "send", "id": "a", "text": "\\ud800"}', "bad_frame", None),
        ('{"type": "stop", "id": "a"}', "bad_frame", "run"),
        ('{"type": "hello", "v": 1}', "bad_frame", "type"),
        ('{"type": "send", "id": "a", "x": ' + "[" * 9000 + "]" * 9000 + "}", "bad_frame", None),
    ]
    async with bot(server.url, server.session()) as client:
        for frame, code, field in corpus:
            await client.socket.send(frame)
            answer = await client.receive()
            assert (answer["type"], answer["code"], answer.get("field")) == ("error", code, field)
            assert answer["retryable"] is False
            assert answer["message"]
        await client.send(type="from.the.future", id="x")
        await client.send(type="ping")
        assert (await client.receive())["type"] == "pong"
        longest = "é" * 6000
        done = await client.ask(longest)
        assert done["status"] == "completed"


@pytest.mark.parametrize(
    ("frames", "code", "close"),
    [
        (('{"type": "ping"}',), "bad_frame", 4500),
        (("nonsense",), "bad_frame", 4500),
        ((b"\x00binary",), "bad_frame", 4500),
        (('{"type": "hello", "v": 2}',), "unsupported_version", 4505),
        (('{"type": "hello", "v": 1}',), "not_authenticated", 4501),
        (('{"type": "hello", "v": 1, "token": "forged"}',), "not_authenticated", 4501),
        ((json.dumps({"type": "hello", "v": 1, "token": "x" * 9000}),), "not_authenticated", 4501),
    ],
)
async def test_a_bad_beginning_is_told_and_closed(
    server: RunningServer, frames: tuple[str | bytes, ...], code: str, close: int
) -> None:
    told, closed = await first_answer(server.url, *frames)
    assert told is not None
    assert (told["type"], told["code"]) == ("error", code)
    assert closed == close


async def test_oversized_binary_and_broken_frames_close_the_connection(
    server: RunningServer,
) -> None:
    hello = json.dumps({"type": "hello", "v": 1, "token": server.session()})
    async with bot(server.url, server.session()) as client:
        await client.socket.send(b"\x01\x02")
        assert (await client.receive())["code"] == "bad_frame"
        await client.socket.wait_closed()
        assert client.socket.close_code == 4500
    async with bot(server.url, server.session()) as client:
        await client.send(type="send", id="big", text="x" * 70_000)
        await client.socket.wait_closed()
        assert client.socket.close_code == 1009
    async with connect(server.url.replace("http", "ws", 1) + "/ws") as socket:
        await socket.send(hello)
        await socket.recv()
        await socket.send(b"\xff\xfe", text=True)
        await socket.wait_closed()
        assert socket.close_code == 1007


async def test_who_says_nothing_for_ten_seconds_is_sent_away(server: RunningServer) -> None:
    told, closed = await first_answer(server.url)
    assert told is not None
    assert (told["code"], closed) == ("no_hello", 4507)


async def test_a_page_of_another_origin_is_refused_before_the_upgrade(
    server: RunningServer,
) -> None:
    address = server.url.replace("http", "ws", 1) + "/ws"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(address, origin="https://evil.test"):  # type: ignore[arg-type]  # Origin is a NewType of str
            pass
    assert refused.value.response.status_code == 403
    async with connect(address, origin=server.url):  # type: ignore[arg-type]  # Origin is a NewType of str
        pass


def test_http_errors_have_one_shape_and_name_the_field(server: RunningServer) -> None:
    token = server.session()
    cases = [
        ("/api/conversations", None, 401, "not_authenticated", None),
        ("/api/conversations", "forged", 401, "not_authenticated", None),
        ("/api/conversations?limit=0", token, 400, "bad_request", "limit"),
        ("/api/conversations?limit=x", token, 400, "bad_request", "limit"),
        ("/api/conversations?before=x", token, 400, "bad_request", "before"),
        ("/api/conversations/none/messages", token, 404, "unknown_conversation", None),
        ("/api/conversations/none/messages?limit=999", token, 400, "bad_request", "limit"),
        ("/api/search", token, 400, "bad_request", "q"),
        ("/api/search?q=x&k=51", token, 400, "bad_request", "k"),
        ("/api/nothing", token, 404, "not_found", None),
        ("/admin/metrics", None, 401, "not_authenticated", None),
        ("/admin/metrics", token, 401, "not_authenticated", None),
    ]
    for path, bearer, status, code, field in cases:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        answer = httpx.get(server.url + path, headers=headers, timeout=10)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error.get("field")) == (status, code, field)


async def test_a_conversation_of_somebody_else_does_not_exist(server: RunningServer) -> None:
    owner, stranger = server.session(), server.session()
    async with bot(server.url, owner) as client:
        done = await client.ask("A private thing.", conversation="private")
    answer = server.get("/api/conversations/private/messages", stranger)
    assert answer.json()["error"]["code"] == "unknown_conversation"
    assert server.get("/api/conversations", stranger).json()["conversations"] == []
    assert server.get("/api/search?q=private", stranger).json()["items"] == []
    async with bot(server.url, stranger) as client:
        refused = await client.say("Mine!", conversation="private", parent=done["message"]["id"])
        assert refused["code"] == "unknown_parent"
        await client.send(type="stop", id="s", run=done["run"])
        assert (await client.until_type("error"))["code"] == "unknown_run"


def test_pages_carry_a_policy_that_allows_no_foreign_script_or_image(
    server: RunningServer,
) -> None:
    answer = httpx.get(server.url + "/", timeout=10)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "img-src 'self' data:" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_page_of_a_foreign_origin_cannot_use_the_cookie_over_http(
    server: RunningServer,
) -> None:
    said = {"id": "i1", "conversation": "c1", "role": "user", "text": "planted"}
    line = json.dumps(said | {"timestamp": 1.7e9})
    async with httpx.AsyncClient(base_url=server.url) as page:
        user = (await page.post("/api/session")).json()["user"]
        for origin in ("https://evil.test", "http://127.0.0.1:1", "null"):
            headers = {"Origin": origin, "Content-Type": "text/plain"}
            for method, path, body in (
                ("POST", "/api/import", line),
                ("DELETE", "/api/me", json.dumps({"confirm": user})),
                ("GET", "/api/export", ""),
            ):
                refused = await page.request(method, path, content=body, headers=headers)
                assert refused.status_code == 403
                assert refused.json()["error"]["code"] == "forbidden"
        own = {"Origin": server.url}
        assert (await page.get("/api/export", headers=own)).text == ""
        await page.post("/api/import", content=line, headers=own)
        assert "planted" in (await page.get("/api/export")).text
