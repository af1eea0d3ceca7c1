from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import msgspec
import pytest
from starlette.types import Message as AsgiMessage
from structlog.testing import capture_logs

from chat_server import patience, transfer
from chat_server.errors import ChatError
from chat_server.readiness import Readiness
from chat_server.state import State
from chat_server.transfer import (
    AT_ONCE,
    ClientLeft,
    Slots,
    Streamed,
    chunks,
    serve_export,
    serve_import,
)
from memory.messages import UserId
from tests.chat_server.transfer_world import ANN, TransferWorld, line, transfer_world


class Client:
    """The other side of one request: a body in parts, then whether it stays."""

    def __init__(self, *parts: bytes, leaves: bool = False) -> None:
        self._parts = list(parts)
        self._leaves = leaves
        self.status = 0
        self.body = b""
        self.ended = False

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.body.splitlines()]

    async def receive(self) -> AsgiMessage:
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": self._leaves or self._parts}
        if self._leaves:
            return {"type": "http.disconnect"}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: AsgiMessage) -> None:
        await anyio.lowlevel.checkpoint()
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")
        if message["type"] == "http.response.body":
            self.ended = not message.get("more_body")


@pytest.fixture
async def world() -> AsyncIterator[TransferWorld]:
    async with transfer_world() as opened:
        yield opened


def state_of(world: TransferWorld, *, draining: bool = False) -> State:
    parts = {"memory": world.memory, "readiness": Readiness([], draining=draining)}
    return cast("State", parts)


def content(*numbers: int) -> bytes:
    return b"".join(msgspec.json.encode(line(number)) + b"\n" for number in numbers)


def never() -> bool:
    return False


def test_each_user_has_one_slot_and_a_few_users_at_a_time() -> None:
    slots = Slots()
    users = [UserId(f"u{number}") for number in range(AT_ONCE)]
    with slots.taken(users[0]):
        with pytest.raises(ChatError, match="busy"), slots.taken(users[0]):
            pass
        with (
            slots.taken(users[1]),
            slots.taken(users[2]),
            pytest.raises(ChatError, match="others"),
            slots.taken(UserId("one more")),
        ):
            pass
        with slots.taken(UserId("one more")):
            pass
    with slots.taken(users[0]):
        pass


async def test_who_is_at_it_already_is_told_busy() -> None:
    slots, client = Slots(), Client()

    async def serve(_receive: object, _send: object) -> None:
        raise AssertionError

    with slots.taken(ANN):
        scope = {"type": "http"}
        await Streamed(slots, ANN, serve)(scope, client.receive, client.send)
    assert (client.status, client.ended) == (409, True)
    assert client.lines[0]["error"]["code"] == "busy"


async def test_a_body_comes_in_its_parts() -> None:
    client = Client(b"a", b"", b"b")
    assert [part async for part in chunks(client.receive, never)] == [b"a", b"b"]
    with pytest.raises(ClientLeft):
        assert [part async for part in chunks(Client(b"a", leaves=True).receive, never)]


async def test_a_silent_body_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "LOOK_UP_S", 0.01)
    monkeypatch.setattr(transfer, "BODY_IDLE_S", 0.05)
    with pytest.raises(ChatError, match="slow_client"):
        await anext(chunks(Client().receive, never))
    with pytest.raises(ChatError, match="shutting_down"):
        await anext(chunks(Client().receive, lambda: True))


async def test_an_import_answers_line_by_line_and_with_a_summary(world: TransferWorld) -> None:
    client = Client(content(1)[:20], content(1)[20:] + b"nonsense\n", content(2)[:-1])
    await serve_import(state_of(world), ANN, client.receive, client.send)
    error, summary = client.lines
    assert (client.status, client.ended) == (200, True)
    assert (error["line"], error["error"]["code"]) == (2, "bad_request")
    assert (summary["done"], summary["read"], summary["stored"]) == (True, 3, 2)
    assert await world.texts("c") == ["text 1", "text 2"]


async def test_what_came_before_a_client_left_is_kept_and_no_half_line(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.transfer_import.BATCH_LINES", 2)
    client = Client(content(1, 2, 3)[:-9], leaves=True)
    await serve_import(state_of(world), ANN, client.receive, client.send)
    assert client.lines[-1]["done"] is False
    assert await world.texts("c") == ["text 1", "text 2"]


async def test_an_import_ends_when_the_server_does_or_its_store_is_away(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(content(1))
    await serve_import(state_of(world, draining=True), ANN, client.receive, client.send)
    assert client.lines[-1]["error"]["code"] == "shutting_down"
    monkeypatch.setattr(patience, "WITHIN_S", 0)
    world.long_term.away = True
    client = Client(content(1))
    await serve_import(state_of(world), ANN, client.receive, client.send)
    assert client.lines[-1]["error"]["code"] == "not_stored"
    assert client.lines[-1]["done"] is False


@pytest.mark.parametrize("broken", ["take", "flush", "close"])
async def test_a_fault_of_the_server_ends_an_import_with_a_last_line_that_says_so(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(f"chat_server.transfer_import.Import.{broken}", fail)
    client = Client(content(1))
    with capture_logs() as logs:
        await serve_import(state_of(world), ANN, client.receive, client.send)
    assert client.ended
    assert (client.lines[-1]["done"], client.lines[-1]["error"]["code"]) == (False, "internal")
    failed = next(entry for entry in logs if entry["event"] == "import.failed")
    assert failed["exc_info"]


async def test_an_export_that_is_not_whole_has_no_end(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.import_([line(1), line(2)])
    client = Client(b"")
    await serve_export(state_of(world), ANN, client.receive, client.send)
    assert (client.status, client.ended, len(client.lines)) == (200, True, 2)
    monkeypatch.setattr(patience, "WITHIN_S", 0)
    world.long_term.away = True
    for state in (state_of(world), state_of(world, draining=True)):
        client = Client(b"")
        await serve_export(state, ANN, client.receive, client.send)
        assert not client.ended
        world.long_term.away = False


async def test_an_export_ends_when_its_client_leaves(world: TransferWorld) -> None:
    await world.import_([line(1)])
    client = Client(leaves=True)
    world.long_term.away = True
    with anyio.fail_after(5):
        await serve_export(state_of(world), ANN, client.receive, client.send)
    assert not client.ended
