from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

from chat_server.client import Client, NoAnswer, Unreachable
from tests.chat_server.scripted_server import opened, scripted_server

HEAVY = ("starlette", "uvicorn", "chromadb", "redis", "openai", "numpy", "onnxruntime", "pydantic")


def test_a_bot_does_not_load_the_server() -> None:
    listing = "import sys, chat_server.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    assert "httpx" in done.stdout.split()
    assert not set(HEAVY) & set(done.stdout.split())


async def test_only_what_was_said_goes_into_the_frame() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            client.send("Hi", conversation="c1", author="Ana", memory=False)
            frame = await peer.receive()
            assert frame.pop("id")
            assert frame == {
                "type": "send",
                "text": "Hi",
                "conversation": "c1",
                "author": "Ana",
                "options": {"memory": False},
            }


async def test_what_is_typed_is_told_and_not_waited_for() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        client.draft("before there is a connection")
        async with opened(client, server) as peer:
            client.draft("What is my bo", conversation="c1")
            frame = await peer.receive()
            assert frame == {"type": "draft", "text": "What is my bo", "conversation": "c1"}


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        with pytest.raises(ZeroDivisionError):
            async with opened(client, server):
                _ = 1 / 0


async def test_cancelling_the_block_closes_the_client() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        with anyio.move_on_after(0.2) as scope:
            async with opened(client, server):
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert not client.online


async def test_who_waits_when_the_client_is_closed_is_told() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server):
            reply = client.send("Hello?")
        with pytest.raises(Unreachable, match="closed"):
            await reply.result()


async def test_a_stop_without_an_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_server.client.ANSWER_WITHIN_S", 0.05)
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            with pytest.raises(NoAnswer):
                await client.stop("r1")
            frame = await peer.receive()
            assert (frame["type"], frame["run"]) == ("stop", "r1")
