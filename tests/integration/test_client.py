"""The Python client against the real server: interrupted, restarted, refused."""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path

import anyio
import pytest

from chat_server.client import (
    Client,
    ConnectionLost,
    Event,
    Reply,
    ServerError,
    Welcome,
    new_id,
)
from tests.integration.running_server import RunningServer, running_server
from tests.integration.tcp_proxy import tcp_proxy
from tests.stub_model import Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

WITHIN_S = 40.0


async def read_to(reply: Reply, pieces: deque[str], words: str) -> None:
    """Follow *reply* until *words* have come."""
    async for piece in reply:
        pieces.append(piece)
        if words in "".join(pieces):
            return


async def test_a_reply_streams_and_the_next_one_remembers(
    server: RunningServer, stub: StubModel
) -> None:
    with anyio.fail_after(WITHIN_S):
        async with await Client.guest(server.url) as client:
            stub.mode = Mode(tokens=20, token_ms=25)
            chat = new_id()
            reply = client.send("My boat is called Gaivota.", conversation=chat)
            accepted = await reply.accepted()
            assert (accepted.conversation, accepted.duplicate) == (chat, False)
            pieces = [piece async for piece in reply]
            result = await reply.result()
            assert len(pieces) > 1
            assert "".join(pieces) == result.text == " ".join(f"word{n}" for n in range(1, 21))
            assert (result.status, result.stored, result.corrected) == ("completed", True, False)
            assert result.timings_ms["total"] > 0

            stub.mode = Mode(echo="Gaivota")
            again = await client.send("What is my boat called?").result()
            assert again.memories[0].text == "My boat is called Gaivota."
            assert "My boat is called Gaivota." in again.text
            assert client.limits is not None
            assert client.limits.remaining == client.limits.limit - 2


async def test_lists_history_and_search_come_in_pages(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=2)
    with anyio.fail_after(WITHIN_S):
        async with await Client.guest(server.url) as client:
            for n in range(5):
                await client.send(f"Number {n} is a lighthouse.", conversation="lights").result()
            await client.send("Something else.", conversation="other").result()
            listed = [found.id async for found in client.conversations(page=1)]
            assert listed == ["other", "lights"]
            told = [said async for said in client.history("lights", page=3)]
            assert [said.text for said in reversed(told) if said.role == "user"] == [
                f"Number {n} is a lighthouse." for n in range(5)
            ]
            found = await client.search("lighthouse", limit=3)
            assert len(found) == 3
            with pytest.raises(ServerError) as refusal:
                _ = [said async for said in client.history("nowhere")]
            assert refusal.value.code == "unknown_conversation"


async def test_a_stopped_reply_keeps_what_it_said(server: RunningServer, stub: StubModel) -> None:
    stub.mode = Mode(tokens=10_000, token_ms=5)
    with anyio.fail_after(WITHIN_S):
        async with await Client.guest(server.url) as client:
            reply = client.send("Never end.")
            pieces: deque[str] = deque()
            await read_to(reply, pieces, "word5")
            await reply.stop()
            result = await reply.result()
            assert result.status == "stopped"
            assert result.text.startswith("".join(pieces))
            await reply.stop()
            with pytest.raises(ServerError) as refusal:
                await client.stop("nothing-like-that")
            assert refusal.value.code == "unknown_run"


async def test_an_interrupted_iteration_goes_on_without_loss_or_repetition(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=150, token_ms=20)
    events: list[Event | ConnectionLost] = []
    with anyio.fail_after(WITHIN_S):
        async with (
            tcp_proxy(server.url) as proxy,
            await Client.guest(proxy.url, on_event=events.append) as client,
        ):
            reply = client.send("Talk for long.")
            pieces: list[str] = []
            async for piece in reply:
                pieces.append(piece)
                if len(pieces) in {3, 20}:
                    await proxy.cut()
            result = await reply.result()
            assert client.mismatches == 0
    assert "".join(pieces) == result.text == " ".join(f"word{n}" for n in range(1, 151))
    assert not result.corrected
    assert sum(isinstance(event, ConnectionLost) for event in events) >= 2
    first, *others = [event.resumed for event in events if isinstance(event, Welcome)]
    assert not first
    assert others
    assert all(others), "what was missed came over the socket"
    assert len(stub.requests) == 1


async def test_a_reply_that_ended_while_the_line_was_down_is_read_afterwards(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=20, token_ms=20)
    with anyio.fail_after(WITHIN_S):
        async with tcp_proxy(server.url) as proxy, await Client.guest(proxy.url) as client:
            reply = client.send("Talk on without me.")
            pieces: deque[str] = deque()
            await read_to(reply, pieces, "word2")
            await proxy.cut(refuse=True)
            await anyio.to_thread.run_sync(
                server.wait_logged, lambda event: event.get("event") == "turn.finished"
            )
            proxy.mend()
            result = await reply.result()
            assert (result.status, result.text) == ("completed", reply.text)
            assert result.text.startswith("".join(pieces))
            assert "".join([piece async for piece in reply]) == result.text
    assert len(stub.requests) == 1


async def test_a_message_sent_into_a_broken_line_is_stored_once(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=3)
    with anyio.fail_after(WITHIN_S):
        async with tcp_proxy(server.url) as proxy, await Client.guest(proxy.url) as client:
            for n in range(4):
                reply = client.send(f"Message {n}.", conversation="line")
                await proxy.cut()
                assert (await reply.result()).status == "completed"
            told = [said.text async for said in client.history("line") if said.role == "user"]
            assert told == [f"Message {n}." for n in reversed(range(4))]


async def test_what_a_bot_left_in_its_outbox_is_delivered_once_by_the_next(
    server: RunningServer, stub: StubModel, tmp_path: Path
) -> None:
    stub.mode = Mode(tokens=3)
    outbox = tmp_path / "outbox"
    with anyio.fail_after(WITHIN_S):
        async with tcp_proxy(server.url) as proxy:
            async with await Client.guest(proxy.url, outbox=outbox) as client:
                token = client.token
                left = [client.send("On the wire.", conversation="box")]
                await left[0].written_down()
                await proxy.cut(refuse=True)
                left += [client.send(f"Offline {n}.", conversation="box") for n in range(3)]
                for reply in left:
                    await reply.written_down()
            proxy.mend()
            async with Client(proxy.url, token=token, outbox=outbox) as client:
                sent_again = {reply.id for reply in client.recovered}
                assert {reply.id for reply in left[1:]} <= sent_again <= {it.id for it in left}
                for reply in client.recovered:
                    assert (await reply.result()).status == "completed"
                told = [said async for said in client.history("box")]
                said = [message.text for message in reversed(told) if message.role == "user"]
                assert said == ["On the wire.", "Offline 0.", "Offline 1.", "Offline 2."]
                assert len(told) == 8, "each was answered once"
            async with Client(proxy.url, token=token, outbox=outbox) as client:
                assert client.recovered == []


async def test_another_reply_and_another_wording_stand_beside_the_first(
    server: RunningServer, stub: StubModel
) -> None:
    with anyio.fail_after(WITHIN_S):
        async with tcp_proxy(server.url) as proxy, await Client.guest(proxy.url) as client:
            stub.mode = Mode(text="One answer.")
            reply = client.send("A question?", conversation="tree")
            first = await reply.result()
            stub.mode = Mode(text="Another answer.")
            sibling = await reply.regenerate()
            await proxy.cut()
            second = await sibling.result()
            assert (first.text, second.text) == ("One answer.", "Another answer.")
            assert first.message != second.message
            same = client.regenerate(first.message, id=sibling.id)
            assert (await same.result()).message == second.message, "the same id, the same reply"
            branch = await reply.edit("Another question?")
            third = await branch.result()
            assert (await branch.accepted()).message != (await reply.accepted()).message
            assert third.text == "Another answer."
            assert third.conversation == "tree"


async def test_a_restarted_server_is_found_again_and_its_replies_too(
    data_dir: Path, stub: StubModel, model_environment: dict[str, str], tmp_path: Path
) -> None:
    stub.mode = Mode(tokens=10_000, token_ms=10)
    environment = {**model_environment, "TANDEM_SERVER__DRAIN_S": "0.2"}
    with anyio.fail_after(2 * WITHIN_S):
        with running_server(data_dir, environment) as server:
            server.wait_ready()
            address = server.url
            # With an outbox: a server that has just begun refuses until its store is there.
            client = await Client.guest(address, outbox=tmp_path / "outbox")
            await client.__aenter__()
            try:
                drained = client.send("Never end.", conversation="one")
                await read_to(drained, deque(), "word3")
                await anyio.to_thread.run_sync(server.stop)
                assert (await drained.result()).status == "interrupted"
                waiting = client.send("Are you back?", conversation="two")
                stub.mode = Mode(tokens=10_000, token_ms=10)
                port = address.rpartition(":")[2]
                with running_server(data_dir, environment, "--port", port) as second:
                    await anyio.to_thread.run_sync(second.wait_ready)
                    await read_to(waiting, deque(), "word99")  # a second of it is shown
                    second.process.send_signal(signal.SIGKILL)
                    await anyio.to_thread.run_sync(second.process.wait)
                with running_server(data_dir, environment, "--port", port) as third:
                    await anyio.to_thread.run_sync(third.wait_ready)
                    result = await waiting.result()
                    assert result.status == "interrupted"
                    assert result.text.startswith("word1 word2 word3"), "it was shown"
                    told = [said.role async for said in client.history("two")]
                    assert told == ["assistant", "user"]
            finally:
                await client.__aexit__(None, None, None)


async def test_refusals_are_typed_and_the_connection_goes_on(
    data_dir: Path, model_environment: dict[str, str]
) -> None:
    environment = {**model_environment, "TANDEM_LIMITS__PER_USER": "1"}
    with running_server(data_dir, environment) as server, anyio.fail_after(WITHIN_S):
        await anyio.to_thread.run_sync(server.wait_ready)
        async with await Client.guest(server.url) as client:
            with pytest.raises(ServerError) as empty:
                await client.send(" ").result()
            assert (empty.value.code, empty.value.field, empty.value.retryable) == (
                "empty_text",
                "text",
                False,
            )
            assert (await client.send("One.").result()).status == "completed"
            with pytest.raises(ServerError) as spent:
                async for _piece in client.send("Two."):
                    pass
            assert spent.value.code == "rate_limited"
            assert spent.value.retryable
            assert spent.value.retry_after_ms is not None
        with pytest.raises(ServerError) as stranger:
            async with Client(server.url, token="forged.token"):
                pass
        assert stranger.value.code == "not_authenticated"
