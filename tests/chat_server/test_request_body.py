from __future__ import annotations

import anyio
import msgspec
import pytest
from starlette.requests import Request
from starlette.types import Message, Scope

from chat_server import request_body
from chat_server.errors import ChatError
from chat_server.request_body import MAX_BODY_BYTES, read_body


class Wish(msgspec.Struct):
    wanted: bool
    name: str = ""


def request(*chunks: bytes) -> Request:
    left = list(chunks)

    async def receive() -> Message:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    scope: Scope = {"type": "http", "method": "PATCH", "headers": []}
    return Request(scope, receive)


async def test_a_body_comes_in_pieces() -> None:
    assert await read_body(request(b'{"wanted":', b' true, "more": 1}'), Wish) == Wish(wanted=True)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"wanted": 1}', b"{}", b'{"wanted": true, "name": "\xff"}']
)
async def test_what_is_none_of_the_kind_is_told_by_its_fields(body: bytes) -> None:
    with pytest.raises(ChatError, match="`wanted`, `name`") as told:
        await read_body(request(body), Wish)
    assert told.value.code == "bad_request"


async def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    endless = request(*[b" " * 1000] * 1000)
    with pytest.raises(ChatError, match=f"{MAX_BODY_BYTES:,}"):
        await read_body(endless, Wish)


async def test_a_body_that_does_not_come_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(request_body, "BODY_WITHIN_S", 0.01)
    scope: Scope = {"type": "http", "method": "PATCH", "headers": []}
    with pytest.raises(ChatError) as told:
        await read_body(Request(scope, receive), Wish)
    assert told.value.code == "slow_client"


async def test_a_client_that_leaves_in_the_middle_is_no_fault_of_ours() -> None:
    left: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return left.pop(0)

    scope: Scope = {"type": "http", "method": "PATCH", "headers": []}
    with pytest.raises(ChatError) as told:
        await read_body(Request(scope, receive), Wish)
    assert told.value.code == "slow_client"
