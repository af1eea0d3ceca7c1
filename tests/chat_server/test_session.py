"""A connection over a real socket, with twins behind it."""

from __future__ import annotations

import asyncio
import json
import time

import anyio
import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bench.wire_link import UPGRADE, masked, small_socket
from chat_server import clock, session
from chat_server.command_rate import BURST
from chat_server.events import ConversationUpdated, WireConversation
from chat_server.patient_websocket import PatientWebSocket
from memory.messages import ConversationId
from tests.chat_server.twin_server import Client, TwinServer, twin_server


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes a tenth of one."""
    monkeypatch.setattr(clock, "TICK_S", 0.02)
    monkeypatch.setattr(session, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(session, "PONG_WITHIN_S", 0.2)
    monkeypatch.setattr(session, "HELLO_WITHIN_S", 0.2)


@pytest.mark.parametrize("protocol", [PatientWebSocket, WebSocketsSansIOProtocol])
async def test_a_conversation_works_with_and_without_a_direct_way_to_write(
    protocol: type[WebSocketsSansIOProtocol],
) -> None:
    async with twin_server(protocol) as server, server.client() as client:
        await client.send(type="send", id="one", text="Hello!")
        assert (await client.until("accepted"))["re"] == "one"
        text = ""
        while True:
            frame = await client.receive()
            if frame["type"] == "run.delta":
                assert frame["offset"] == len(text)
                text += frame["text"]
            if frame["type"] == "run.done":
                break
        assert frame["message"]["text"] == text
        await client.send(type="ping")
        await client.until("pong")


async def test_an_idle_connection_has_one_task() -> None:
    async with twin_server() as server, server.client():
        before = {task.id for task in anyio.get_running_tasks()}
        async with server.client(), server.client(), server.client():
            with anyio.fail_after(10):
                while len({task.id for task in anyio.get_running_tasks()} - before) != 3:
                    await anyio.sleep(0.02)  # memories are warmed meanwhile, which ends soon


@pytest.mark.usefixtures("hurried")
async def test_who_is_silent_is_asked_and_any_frame_is_an_answer() -> None:
    async with twin_server() as server, server.client() as client:
        for _ in range(3):
            assert (await client.until("ping"))["type"] == "ping"
            await client.send(type="unknown")
        await client.until("ping")
        assert await client.closed() == 4412


@pytest.mark.usefixtures("hurried")
async def test_who_does_not_say_hello_is_sent_away() -> None:
    async with twin_server() as server, connect(server.url) as connection:
        client = Client(connection)
        assert (await client.receive())["code"] == "no_hello"
        assert await client.closed() == 4507


async def test_a_connection_ends_with_its_session() -> None:
    async with twin_server() as server:
        soon = server.token(expires_at=int(time.time()) + 2)
        async with server.client(token=soon) as client:
            frame = await client.until("error")
            assert (frame["code"], frame["retryable"]) == ("token_expired", True)
            assert await client.closed() == 4401


@pytest.mark.usefixtures("hurried")
async def test_a_renewed_session_goes_on() -> None:
    async with twin_server() as server:
        soon = server.token(expires_at=int(time.time()) + 2)
        async with server.client(token=soon) as client:
            await client.send(type="auth", id="renew", token=server.token())
            assert (await client.until("ok"))["re"] == "renew"
            deadline = time.monotonic() + 3.5
            while time.monotonic() < deadline:  # past the end of the first one
                await client.until("ping")
                await client.send(type="pong")


async def test_a_session_is_renewed_by_the_same_user_only() -> None:
    async with twin_server() as server, server.client() as client:
        await client.send(type="auth", id="a", token=server.token("bob"))
        refused = await client.until("error")
        assert (refused["code"], refused["field"], refused["re"]) == ("forbidden", "token", "a")
        await client.send(type="auth", id="b", token="forged")
        refused = await client.until("error")
        assert (refused["code"], refused["re"]) == ("not_authenticated", "b")
        await client.send(type="ping")
        await client.until("pong")


async def test_who_floods_with_commands_is_told_when_to_come_back() -> None:
    async with twin_server() as server, server.client() as client:
        await client.send(type="send", id="kept", text="Stored before the flood.")
        await client.until("accepted")
        for _ in range(BURST + 50):
            await client.send(type="ping")
        refused = await client.until("error")
        assert refused["code"] == "too_many_commands"
        assert 0 < refused["retry_after_ms"] <= 10_000
        assert await client.closed() == 4429
        with anyio.fail_after(10):
            await server.world.desk.runs.wait_idle()
        texts = [text for _, text, _ in await stored(server)]
        assert texts[0] == "Stored before the flood."
        assert len(texts) == 2


async def test_a_flood_in_one_packet_is_sent_away_as_well() -> None:
    async with twin_server() as server, server.client() as client:
        client.connection.transport.write(masked(b'{"type":"ping"}') * 20_000)
        assert await client.closed() == 4429


async def stored(server: TwinServer) -> list[tuple[str, str, str]]:
    page = await server.world.desk.memory.conversations.page(
        server.world.user, limit=5, before=None
    )
    return await server.world.stored(page.conversations[0].id)


async def test_drafts_beyond_their_own_limit_are_dropped_without_harm() -> None:
    async with twin_server() as server, server.client() as client:
        for number in range(60):
            await client.send(type="draft", text=f"What is {number}")
        await client.send(type="ping")
        await client.until("pong")


async def test_one_connection_too_many_of_a_user_is_told_not_to_come_back() -> None:
    async with twin_server(most_per_user=2) as server:
        async with server.client(), server.client(), connect(server.url) as connection:
            third = Client(connection)
            await third.send(type="hello", v=1, token=server.token())
            refused = await third.receive()
            assert (refused["code"], refused["retryable"]) == ("too_many_connections", False)
            assert await third.closed() == 4504
            async with server.client("bob"):
                pass
        async with server.client():
            pass


async def test_a_full_or_ending_server_refuses_before_the_upgrade() -> None:
    async with twin_server(most=1) as server:
        async with server.client():
            with pytest.raises(InvalidStatus) as refused:
                async with connect(server.url):
                    pass
            response = refused.value.response
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
        with anyio.fail_after(10):
            await server.connections.wait_none()
        server.connections.announce_end(1.0)
        with pytest.raises(InvalidStatus) as refused:
            async with connect(server.url):
                pass
        assert refused.value.response.status_code == 503


def publish(server: TwinServer, title: str) -> None:
    """A lasting event for ana, about as large as *title*."""
    conversation = WireConversation(
        id=ConversationId("c"), title=title, created_at=0.0, updated_at=0.0, head=None
    )
    server.world.desk.fanout.publish(
        server.world.user, ConversationUpdated(conversation=conversation)
    )


async def test_who_reads_nothing_is_sent_away_and_nobody_waits_for_that() -> None:
    """A tab that has stopped, beside one that reads: 20 MB for both."""
    async with twin_server() as server, server.client() as reader:
        address = ("127.0.0.1", server.port)
        with small_socket(*address) as raw:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(raw, UPGRADE)
            assert (await loop.sock_recv(raw, 17)).startswith(b"HTTP/1.1 101")
            hello = {"type": "hello", "v": 1, "token": server.token()}
            await loop.sock_sendall(raw, masked(json.dumps(hello).encode()))
            with anyio.fail_after(10):
                while len(server.connections) < 2:
                    await anyio.sleep(0.01)
            for _ in range(2_000):
                publish(server, "x" * 10_000)
                assert (await reader.until("conversation.updated"))["type"]
            with anyio.fail_after(10):
                while len(server.connections) > 1:
                    await anyio.sleep(0.02)
            await reader.send(type="ping")
            await reader.until("pong")
        told = server.world.desk.metrics.render()[0]
        assert b'tandem_errors_total{code="slow_client"} 1.0' in told


async def test_what_was_missed_comes_whole_however_much_it_is() -> None:
    """More than may wait for a slow client: it is kept anyway."""
    async with twin_server() as server:
        async with server.client() as client:
            seen = client.welcome
        for _ in range(150):
            publish(server, "x" * 12_000)
        resume = {"epoch": seen["epoch"], "seq": seen["seq"]}
        async with server.client(resume=resume) as client:
            assert client.welcome["resumed"] is True
            for seq in range(seen["seq"] + 1, client.welcome["seq"] + 1):
                assert (await client.receive())["seq"] == seq
