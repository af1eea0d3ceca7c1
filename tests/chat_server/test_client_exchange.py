from __future__ import annotations

import hashlib

import pytest

from chat_server import client_exchange
from chat_server.client import Client, NoAnswer, ServerError, TooMuchWaiting
from chat_server.client_exchange import MAX_UNANSWERED
from chat_server.client_state import MAX_REPEATS
from tests.chat_server.scripted_server import Frame, Peer, ScriptedServer, opened, scripted_server


def message(id_: str, text: str) -> Frame:
    role = "user" if id_ == "m1" else "assistant"
    return {"id": id_, "role": role, "text": text, "timestamp": 1.0, "parent": None}


async def delta(peer: Peer, offset: int, text: str) -> None:
    await peer.send(type="run.delta", run="r1", offset=offset, text=text)


async def done(peer: Peer, text: str, **more: object) -> None:
    digest = hashlib.sha256(text.encode()).hexdigest()
    facts = {"status": "completed", "chars": len(text), "sha256": digest, **more}
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


async def test_a_gap_is_filled_by_attach() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Go on.")
            await peer.accept(await peer.receive())
            await delta(peer, 4, "two")
            attach = await peer.receive()
            assert (attach["type"], attach["run"], attach["offset"]) == ("attach", "r1", 0)
            await peer.send(type="ok", re=attach["id"])
            await delta(peer, 0, "One two")
            pieces = reply.__aiter__()
            assert await anext(pieces) == "One two"
            await delta(peer, 7, " three")
            assert await anext(pieces) == " three"
            await done(peer, "One two three")
            assert not (await reply.result()).corrected
        assert server.asked == [], "nothing is read over HTTP"


async def test_a_resumed_connection_goes_on_where_it_was() -> None:
    async with scripted_server() as server:
        server.welcome |= {"epoch": "e1", "seq": 5, "resumed": False}
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Go on.")
            await peer.accept(await peer.receive())
            started = {"run": "r1", "conversation": "c1", "message": "m1", "model": "stub"}
            await peer.send(type="run.started", seq=6, **started)
            await delta(peer, 0, "One")
            pieces = reply.__aiter__()
            assert await anext(pieces) == "One"
            server.welcome |= {"resumed": True, "seq": 7}
            again = await reconnected(server, peer)
            assert again.hello["resume"] == {"epoch": "e1", "seq": 6}
            assert again.hello["runs"] == [{"run": "r1", "offset": 3}]
            await done(again, "One two", seq=7)
            assert await anext(pieces) == " two"
            assert (await reply.result()).text == "One two"
        assert server.asked == [], "nothing is read over HTTP"


async def test_a_repeated_message_that_was_answered_meanwhile_finds_its_reply() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            await peer.receive()
            again = await reconnected(server, peer)
            await again.accept(await again.receive(), duplicate=True)
            attach = await again.receive()
            await again.send(type="ok", re=attach["id"])
            await done(again, "Hello!")
            result = await reply.result()
            assert (result.text, result.message, result.conversation) == ("Hello!", "r1", "c1")


async def test_a_reply_that_died_with_its_server_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_exchange, "FIRST_REPEAT_S", 0.01)
    monkeypatch.setattr(client_exchange, "LONGEST_REPEAT_S", 0.01)
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            sent = await peer.receive()
            await peer.accept(sent)
            await delta(peer, 0, "Hel")
            await anext(reply.__aiter__())
            again = await reconnected(server, peer)
            re = "attach-r1"
            for _ in range(MAX_REPEATS):
                await again.send(type="error", re=re, code="unknown_run", message="no")
                assert await again.receive() == {**sent, "retry": True}
                await again.accept(sent, duplicate=True)
                attach = await again.receive()
                assert attach["type"] == "attach"
                re = attach["id"]
            await again.send(type="error", re=re, code="unknown_run", message="no")
            with pytest.raises(NoAnswer, match="cannot be found"):
                await reply.result()


async def test_a_reply_that_will_not_be_made_again_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_exchange, "FIRST_REPEAT_S", 0.01)
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            await peer.accept(await peer.receive())
            await reply.accepted()
            again = await reconnected(server, peer)
            await again.send(type="error", re="attach-r1", code="unknown_run", message="no")
            sent = await again.receive()
            await again.send(type="error", re=sent["id"], code="id_conflict", message="other text")
            with pytest.raises(ServerError, match="id_conflict"):
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


async def test_a_reply_whose_end_came_before_its_acceptance_is_over() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            sent = await peer.receive()
            await done(peer, "Hello!")
            await peer.accept(sent)
            assert (await reply.result()).text == "Hello!"


async def test_a_copy_that_does_not_fit_its_digest_is_counted() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            await peer.accept(await peer.receive())
            await done(peer, "Hello!", sha256="0" * 64)
            assert (await reply.result()).text == "Hello!"
            assert client.mismatches == 1


async def test_another_reply_and_another_wording_are_asked_for_by_their_messages() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            await peer.accept(await peer.receive())
            sibling = await reply.regenerate()
            asked = await peer.receive()
            assert asked == {"type": "regenerate", "id": sibling.id, "message": "r1"}
            await peer.accept(asked, run="r2")
            assert (await sibling.accepted()).run == "r2"
            branch = await reply.edit("Hello!")
            said = await peer.receive()
            assert said == {"type": "edit", "id": branch.id, "message": "m1", "text": "Hello!"}
            assert client.edit("m1", "Hello!", id=branch.id) is branch


async def test_a_token_that_ends_is_renewed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def renew() -> str:
        return "another"

    ends_soon = "eyJ1IjoiYSIsImUiOjF9.x.y"  # {"u":"a","e":1}
    async with scripted_server() as server:
        client = Client(server.url, token=ends_soon, renew=renew)
        async with opened(client, server) as peer:
            frame = await peer.receive() if peer.hello["token"] == ends_soon else {}
            told = frame.get("token", peer.hello["token"])
            assert told == client.token == "another"
