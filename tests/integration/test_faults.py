"""What users get when parts fail, and that nothing accepted is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from secrets import token_hex

import anyio
import pytest
import redis

from tests.integration.bot import Bot, Frame, bot
from tests.integration.running_server import RunningServer, running_server
from tests.stub_model import Kind, Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]


def redis_of(data_dir: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(data_dir / "redis" / "redis.sock"))


async def test_a_flushed_redis_is_rebuilt_and_the_reply_still_knows(
    server: RunningServer, stub: StubModel, data_dir: Path
) -> None:
    stub.mode = Mode(tokens=3)
    async with bot(server.url, server.session()) as client:
        for n in range(7):
            await client.ask(f"Fact {n}: the blue door has number {n}.", conversation="doors")
        store = redis_of(data_dir)
        before = store.keys("*window*")
        assert len(before) == 1
        kept = store.lrange(before[0], 0, -1)
        assert len(kept) == 10
        store.flushall()
        stub.mode = Mode(echo="blue door")
        done = await client.ask("Which doors do you know?", conversation="doors")
        assert "Fact 6: the blue door has number 6." in done["message"]["text"]
        prompt = stub.requests[-1].messages
        window = [said["content"] for said in prompt if said["role"] != "system"]
        assert len(window) == 11
        assert window[-3].startswith("Fact 6")
        assert store.keys("*window*") == before, "it was put back"
        assert len(store.lrange(before[0], 0, -1)) == 10


async def test_chat_goes_on_while_redis_is_killed_and_hung(
    server: RunningServer, stub: StubModel
) -> None:
    async with bot(server.url, server.session()) as client:
        await client.ask("Message one.", conversation="tough")
        server.kill_child("redis")
        for n in range(3):
            done = await client.ask(f"Message while away {n}.", conversation="tough")
            assert done["status"] == "completed"
        server.wait_readiness(ready=True)
        hung = server.child_pid("redis")
        os.kill(hung, signal.SIGSTOP)
        try:
            done = await client.ask("Message while hung.", conversation="tough")
            assert done["status"] == "completed"
        finally:
            os.kill(hung, signal.SIGCONT)
        await client.ask("Message at the end.", conversation="tough")
    said = [said["content"] for said in stub.requests[-1].messages if said["role"] == "user"]
    assert (
        said[-6:]
        == [
            "Message one.",
            "Message while away 0.",
            "Message while away 1.",
            "Message while away 2.",
            "Message while hung.",
            "Message at the end.",
        ][-len(said) :]
    )


async def retry_until_accepted(client: Bot, text: str, message: str) -> Frame:
    """What a good client does: the same id again while the error is retryable."""
    with anyio.fail_after(20):
        while True:
            answer = await client.say(text, id=message, conversation="survivor", retry=True)
            if answer["type"] == "accepted":
                return answer
            assert answer["retryable"], answer
            assert answer["code"] in {"not_stored", "store_unknown"}, answer
            await anyio.sleep(0.05)


async def test_a_killed_chroma_is_back_within_three_seconds_and_loses_nothing(
    server: RunningServer,
) -> None:
    token = server.session()
    async with bot(server.url, token) as client:
        await client.ask("Before the crash.", conversation="survivor")
        server.kill_child("chroma")
        began = anyio.current_time()
        answer = await client.say("During the crash.", id="during", conversation="survivor")
        if answer["type"] == "error":
            assert answer["retryable"]
            assert answer["code"] in {"not_stored", "store_unknown"}
            answer = await retry_until_accepted(client, "During the crash.", "during")
        assert anyio.current_time() - began < 10
        done = await client.done(answer["run"])
        assert done["status"] == "completed"
        assert done.get("stored", True)
    stored = server.get("/api/conversations/survivor/messages", token).json()["messages"]
    assert [said["text"] for said in stored if said["role"] == "user"] == [
        "Before the crash.",
        "During the crash.",
    ]


async def test_chroma_killed_during_a_stream_costs_neither_the_reply_nor_the_question(
    server: RunningServer, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=40, token_ms=10)
    token = server.session()
    async with bot(server.url, token) as client:
        accepted = await client.say("Talk through a crash.", conversation="crash")
        await client.until_type("run.delta")
        server.kill_child("chroma")
        done = await client.done(accepted["run"])
    assert done["status"] == "completed"
    assert done.get("stored", True)
    assert client.streamed(accepted["run"]) == done["message"]["text"]
    stored = server.get("/api/conversations/crash/messages", token).json()["messages"]
    assert [said["text"] for said in stored] == ["Talk through a crash.", done["message"]["text"]]


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        ("401", "model_unauthorized", False),
        ("429", "model_rate_limited", True),
        ("500", "model_unavailable", True),
        ("cut", "model_interrupted", True),
        ("cut_clean", "model_interrupted", True),
        ("garbage", "model_interrupted", True),
        ("error_event", "model_interrupted", True),
    ],
)
async def test_a_failing_model_is_told_clearly_and_costs_no_question(
    server: RunningServer, stub: StubModel, kind: Kind, code: str, *, retryable: bool
) -> None:
    token = server.session()
    message = token_hex(8)
    async with bot(server.url, token) as client:
        stub.mode = Mode(kind=kind, tokens=10, after_tokens=3)
        answer = await client.say("Will you fail?", id=message, conversation="failing")
        done = await client.done(answer["run"])
        error = next(frame for frame in client.frames if frame["type"] == "error")
        assert (error["code"], error["retryable"], error["re"]) == (code, retryable, message)
        assert error["message"]
        assert (done["status"], done["error"]["code"]) == ("failed", code)
        assert client.streamed(answer["run"]) == done["message"]["text"] != ""
        stub.mode = Mode(tokens=3)
        assert (await client.ask("And now?", conversation="failing"))["status"] == "completed"
    stored = server.get("/api/conversations/failing/messages", token).json()["messages"]
    assert [said["status"] for said in stored] == ["completed", "failed", "completed", "completed"]


async def test_a_drained_server_interrupts_what_does_not_end_and_keeps_it(
    data_dir: Path, stub: StubModel, model_environment: dict[str, str]
) -> None:
    stub.mode = Mode(tokens=10_000, token_ms=10)
    environment = {**model_environment, "TANDEM_SERVER__DRAIN_S": "0.3"}
    with running_server(data_dir, environment) as server:
        server.wait_ready()
        token = server.session()
        async with bot(server.url, token) as client:
            answer = await client.say("Never stop.", conversation="endless")
            await client.until_type("run.delta")
            server.process.send_signal(signal.SIGTERM)
            goaway = await client.until_type("goaway")
            assert goaway["reason"] == "restart"
            done = await client.done(answer["run"])
            assert done["status"] == "interrupted"
            await client.socket.wait_closed()
            assert client.socket.close_code == 4400
        assert server.stop() == 0
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        stored = server.get("/api/conversations/endless/messages", token).json()["messages"]
        assert stored[1]["status"] == "interrupted"
        assert stored[1]["text"] == done["message"]["text"]
