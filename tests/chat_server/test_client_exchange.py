from __future__ import annotations

import hashlib

import pytest

from chat_server import client_exchange
from chat_server.client import Client, NoAnswer, ServerError, TooMuchWaiting
from chat_server.client_exchange import MAX_REPEATS, MAX_UNANSWERED
from tests.chat_server.scripted_server import Frame, Peer, ScriptedServer, opened, scripted_server

HISTORY = "/api/conversations/c1/messages"


def message(id_: str, text: str) -> Frame:
    role = "user" if id_ == "m1" else "assistant"
    return {"id": id_, "role": role, "text": text, "timestamp": 1.0, "parent": None}


def told(server: ScriptedServer, messages: list[Frame], runs: list[Frame] | None = None) -> None:
    """What the server will say over HTTP."""
    server.answers[HISTORY] = (200, {"messages": messages, "before": None, "runs": runs or []})


async def delta(peer: Peer, offset: int, text: str) -> None:
    await peer.send(type="run.delta", run="r1", offset=offset, text=text)


async def done(peer: Peer, text: str) -> None:
    digest = hashlib.sha256(text.encode()).hexdigest()
    facts = {"status": "completed", "chars": len(text), "sha256": digest}
    await peer.send(
        type="run.done", run="r1", conversation="c1", message=message("r1", text), **facts
    )


async def reconnected(server: ScriptedServer, peer: Peer) -> Peer:
    await peer.close(4400)
    return await server.peer()


async def test_messages_without_an_answer_are_repeated_in_order_and_marked() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            replies = [client.send(f"Message {n}", conversation="c1") for n in range(3)]
            first = await peer.receive()
            assert "retry" not in first
            again = await reconnected(server, peer)
            frames = [await again.receive() for _ in range(3)]
            assert [frame["id"] for frame in frames] == [reply.id for reply in replies]
            assert frames[0] == {**first, "retry": True}


async def test_a_gap_is_filled_over_http() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Go on.")
            await peer.accept(await peer.receive())
            told(
                server,
                [message("m1", "Go on.")],
                [{"run": "r1", "message": "m1", "text": "One two"}],
            )
            await delta(peer, 4, "two")
            pieces = reply.__aiter__()
            assert await anext(pieces) == "One two"
            await delta(peer, 7, " three")
            assert await anext(pieces) == " three"
            await done(peer, "One two three")
            assert not (await reply.result()).corrected


async def test_a_repeated_message_that_was_answered_meanwhile_finds_its_reply() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            await peer.receive()
            told(server, [message("m1", "Hello?"), message("r1", "Hello!")])
            again = await reconnected(server, peer)
            await again.accept(await again.receive(), duplicate=True)
            result = await reply.result()
            assert (result.text, result.message, result.conversation) == ("Hello!", "r1", "c1")


async def test_a_reply_that_died_with_its_server_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_exchange, "CATCH_UP_PAUSE_S", 0.01)
    async with scripted_server() as server:
        told(server, [message("m1", "Hello?")])
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            sent = await peer.receive()
            await peer.accept(sent)
            await delta(peer, 0, "Hel")
            again = await reconnected(server, peer)
            for _ in range(MAX_REPEATS):
                assert await again.receive() == {**sent, "retry": True}
                await again.accept(sent, duplicate=True)
            with pytest.raises(NoAnswer, match="cannot be found"):
                await reply.result()


async def test_a_failing_model_is_no_refusal_of_the_message() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            await peer.accept(await peer.receive())
            await peer.send(
                type="error", code="model_timeout", message="late", re=reply.id, run="r1"
            )
            await done(peer, "Sorry.")
            assert (await reply.result()).text == "Sorry."


async def test_no_more_is_sent_at_once_than_the_server_takes() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            first = client.send("Message")
            for _ in range(MAX_UNANSWERED - 1):
                client.send("Message")
            with pytest.raises(TooMuchWaiting):
                client.send("Message")
            await peer.receive()
            await peer.send(type="error", code="busy", message="no", re=first.id, retryable=True)
            with pytest.raises(ServerError) as refusal:
                await first.accepted()
            assert refusal.value.retryable
            client.send("Message")


async def test_the_same_id_is_the_same_reply_while_it_is_made() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?", id="mine")
            assert client.send("Hello?", id="mine") is reply
            frame = await peer.receive()
            assert (frame["id"], frame["retry"]) == ("mine", True)
            await peer.accept(frame)
            await reply.accepted()
            assert client.send("Hello?", id="mine") is reply
