"""What was shown of a reply outlives the server's death, and the store's absence."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.integration.bot import Bot, Frame, bot
from tests.integration.running_server import RunningServer, running_server
from tests.integration.tcp_proxy import TcpProxy, tcp_proxy
from tests.memory.chroma_world import serving
from tests.stub_model import Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

ON_DISK_WITHIN_S = 2.0
"""What was shown longer ago than this must be there; the journal is written every 0.25 s."""


def killed(server: RunningServer) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def history(server: RunningServer, token: str, conversation: str) -> list[dict[str, Any]]:
    """The messages, once the store can be read; each is the next one's parent."""
    deadline = time.monotonic() + 30
    while (answer := server.get(f"/api/conversations/{conversation}/messages", token)).is_error:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    found: list[dict[str, Any]] = answer.json()["messages"]
    return found


def stored_history(
    server: RunningServer, token: str, conversation: str, messages: int
) -> list[dict[str, Any]]:
    """The messages once there are so many and all are stored: one line, none twice."""
    deadline = time.monotonic() + 30
    while True:
        found = history(server, token, conversation)
        if len(found) >= messages and all(said.get("stored", True) for said in found):
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    assert len({said["id"] for said in found}) == len(found)
    assert [said["parent"] for said in found] == [None, *(said["id"] for said in found[:-1])]
    return found


async def shown_for(client: Bot, run: str, seconds: float) -> list[tuple[float, str]]:
    """Read a stream for so long; each delta's text with the time when it came."""
    shown: list[tuple[float, str]] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        frame = await client.receive()
        if frame["type"] == "run.delta" and frame["run"] == run:
            shown.append((time.monotonic(), frame["text"]))
    return shown


async def test_a_killed_server_has_what_it_had_shown_when_it_comes_back(
    data_dir: Path, stub: StubModel, model_environment: dict[str, str]
) -> None:
    stub.mode = Mode(tokens=10_000, token_ms=5)
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        token = server.session()
        async with bot(server.url, token) as client:
            silent = await client.say("Wait for it.", conversation="talk")
            shown = await shown_for(client, silent["run"], ON_DISK_WITHIN_S + 1.0)
            killed_at = time.monotonic()
            killed(server)
    safe = "".join(text for at, text in shown if at < killed_at - ON_DISK_WITHIN_S)
    all_of_it = "".join(text for _, text in shown)
    assert safe
    stub.mode = Mode(tokens=3)
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        question, reply = stored_history(server, token, "talk", 2)
        assert (reply["status"], reply["reply_to"]) == ("interrupted", question["id"])
        assert reply["id"] == silent["run"]
        assert reply["text"].startswith(safe)
        assert reply["text"].startswith(all_of_it) or all_of_it.startswith(reply["text"])
        assert "reply" not in question
        async with bot(server.url, token) as client:
            await client.ask("Go on.", conversation="talk")
        killed(server)
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        said = stored_history(server, token, "talk", 4)
        assert [message["role"] for message in said] == ["user", "assistant"] * 2


async def test_a_question_whose_reply_died_with_the_server_says_so_until_it_is_asked_again(
    data_dir: Path, stub: StubModel, model_environment: dict[str, str]
) -> None:
    stub.mode = Mode(kind="hang", after_tokens=0)
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        token = server.session()
        async with bot(server.url, token) as client:
            accepted = await client.say("Hello?", id="q1", conversation="talk")
            [question] = history(server, token, "talk")
            assert "reply" not in question, "it is being made"
            killed(server)
    stub.mode = Mode(tokens=3)
    with running_server(data_dir, model_environment) as server:
        server.wait_ready()
        [question] = history(server, token, "talk")
        assert question["reply"] == "interrupted"
        async with bot(server.url, token) as client:
            again = await client.say("Hello?", id="q1", conversation="talk", retry=True)
            assert (again["duplicate"], again["run"]) == (True, accepted["run"])
            assert (await client.done(again["run"]))["status"] == "completed"
        question, reply = stored_history(server, token, "talk", 2)
        assert "reply" not in question
        assert reply["reply_to"] == question["id"]


@asynccontextmanager
async def own_chroma(folder: Path) -> AsyncIterator[tuple[TcpProxy, dict[str, str]]]:
    """A Chroma behind a line that can be cut, and the environment of a server that uses it."""
    async with serving(folder) as (process, _child), tcp_proxy(process.url) as proxy:
        yield proxy, {"TANDEM_CHROMA__URL": proxy.url, "TANDEM_CHROMA__TIMEOUT_S": "2"}


def segments(data_dir: Path) -> int:
    return len(list((data_dir / "journal").iterdir()))


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(lambda: work(*arguments))


async def kept_reply(client: Bot, chroma: TcpProxy, text: str) -> Frame:
    """Ask; Chroma goes away in the middle of the reply and stays away. The ``run.done``."""
    accepted = await client.say(text, conversation="talk")
    assert accepted["type"] == "accepted", accepted
    await client.until_type("run.delta")
    await chroma.cut(refuse=True)
    done = await client.done(accepted["run"])
    assert client.streamed(accepted["run"]) == done["message"]["text"]
    assert (done["status"], done["stored"], done["kept"]) == ("completed", False, True)
    assert "error" not in done
    return done


async def test_a_reply_that_outlives_chroma_is_shown_and_stored_later_in_its_place(
    data_dir: Path, tmp_path: Path, stub: StubModel, model_environment: dict[str, str]
) -> None:
    stub.mode = Mode(tokens=60, token_ms=10)
    async with own_chroma(tmp_path / "chroma") as (chroma, environment):
        with running_server(data_dir, {**model_environment, **environment}) as server:
            await in_thread(server.wait_ready)
            token = await in_thread(server.session)
            async with bot(server.url, token) as client:
                done = await kept_reply(client, chroma, "Outlive it.")
                refused = await client.say("And now?", id="q2", conversation="talk")
                assert (refused["code"], refused["retryable"]) == ("not_stored", True)
                chroma.mend()
                created = await client.until(
                    lambda frame: (
                        frame["type"] == "message.created" and frame["message"]["id"] == done["run"]
                    )
                )
                assert created["message"]["text"] == done["message"]["text"]
                stub.mode = Mode(tokens=3)
                answer = await client.say("And now?", id="q2", conversation="talk", retry=True)
                await client.done(answer["run"])
            said = await in_thread(stored_history, server, token, "talk", 4)
            assert [message["role"] for message in said] == ["user", "assistant"] * 2
            assert said[1]["text"] == done["message"]["text"]
            prompt = [each["content"] for each in stub.requests[-1].messages]
            assert done["message"]["text"] in prompt, "the next reply knows it"


async def test_a_server_killed_while_a_reply_waits_stores_it_after_its_restart(
    data_dir: Path, tmp_path: Path, stub: StubModel, model_environment: dict[str, str]
) -> None:
    stub.mode = Mode(tokens=60, token_ms=10)
    async with own_chroma(tmp_path / "chroma") as (chroma, on_chroma):
        environment = {**model_environment, **on_chroma}
        with running_server(data_dir, environment) as server:
            await in_thread(server.wait_ready)
            token = await in_thread(server.session)
            async with bot(server.url, token) as client:
                done = await kept_reply(client, chroma, "Outlive all of it.")
            killed(server)
        stub.mode = Mode(tokens=3)
        with running_server(data_dir, environment) as server:
            await in_thread(
                server.wait_logged, lambda event: event.get("event") == "reply.recovered"
            )
            chroma.mend()
            await in_thread(server.wait_ready)
            said = await in_thread(stored_history, server, token, "talk", 2)
            assert [message["text"] for message in said] == [
                "Outlive all of it.",
                done["message"]["text"],
            ]
            assert said[1]["status"] == "completed"
            assert segments(data_dir) == 1
        assert segments(data_dir) == 0, "stopped in order: nothing is owed"
