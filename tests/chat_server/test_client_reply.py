from __future__ import annotations

import hashlib

import anyio
import pytest

from chat_server.client_errors import NoAnswer, ServerError
from chat_server.client_events import Accepted, RunDelta, RunDone, RunStarted
from chat_server.client_reply import Reply
from chat_server.client_runs import RunState
from chat_server.client_values import Message, Place


class NoAsker:
    async def stop(self, run: str) -> None:
        raise AssertionError(run)

    def regenerate(self, message: str) -> Reply:
        raise AssertionError(message)

    def edit(self, message: str, text: str) -> Reply:
        raise AssertionError(message, text)


class Telling:
    """A reply, and the run behind it that the test tells things."""

    def __init__(self) -> None:
        self.reply = Reply("id", NoAsker())
        self.run = RunState("r")
        self._place = 0
        self.reply.accept(Accepted(re="id", message="m", conversation="c", run="r"), self.run)

    def begin(self) -> None:
        self._place += 1
        started = RunStarted(run="r", conversation="c", message="m", model="stub")
        self.run.begin(started, Place("e", self._place))
        self.reply.changed()

    def add(self, offset: int, text: str) -> None:
        self.run.add(RunDelta(run="r", offset=offset, text=text))
        self.reply.changed()

    def finish(self, text: str) -> None:
        self.run.finish(
            RunDone(
                run="r",
                conversation="c",
                status="completed",
                message=Message(id="r", role="assistant", text=text, timestamp=1.0),
                chars=len(text),
                sha256=hashlib.sha256(text.encode()).hexdigest(),
            )
        )
        self.reply.changed()


async def test_the_iteration_begins_at_the_beginning_and_ends_with_the_reply() -> None:
    telling = Telling()
    reply = telling.reply
    telling.add(0, "Well")
    pieces: list[str] = []
    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            pieces.extend([piece async for piece in reply])

        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        telling.add(4, ", hello")
        await anyio.wait_all_tasks_blocked()
        telling.finish("Well, hello.")
    assert pieces == ["Well", ", hello", "."]
    assert [piece async for piece in reply] == ["Well, hello."], "a second reader gets it all"
    assert not (await reply.result()).corrected


async def test_what_was_lost_and_made_anew_in_the_same_words_is_not_repeated() -> None:
    telling = Telling()
    telling.begin()
    telling.add(0, "One two")
    pieces = telling.reply.__aiter__()
    assert await anext(pieces) == "One two"
    telling.begin()
    telling.add(0, "One")
    telling.add(3, " two three")
    assert await anext(pieces) == " three"
    telling.finish("One two three")
    assert [piece async for piece in pieces] == []
    assert not (await telling.reply.result()).corrected


async def test_what_was_made_anew_in_other_words_is_void_and_said_to_be() -> None:
    telling = Telling()
    telling.begin()
    telling.add(0, "One two")
    pieces = telling.reply.__aiter__()
    assert await anext(pieces) == "One two"
    telling.begin()
    telling.add(0, "Completely different")
    telling.finish("Completely different.")
    assert [piece async for piece in pieces] == []
    result = await telling.reply.result()
    assert (result.text, result.corrected) == ("Completely different.", True)


async def test_what_is_in_the_outbox_is_known_before_it_is_accepted() -> None:
    reply = Reply("id", NoAsker())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reply.written_down)
        await anyio.wait_all_tasks_blocked()
        reply.write_down()
    assert reply.acceptance is None


async def test_a_refusal_reaches_everybody_who_waits() -> None:
    reply = Reply("id", NoAsker())
    reply.fail(ServerError("busy", "wait", retryable=True))
    waits = (reply.accepted(), reply.result(), anext(reply.__aiter__()), reply.written_down())
    for waiting in waits:
        with pytest.raises(ServerError):
            await waiting


async def test_nothing_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoAnswer):
        await Reply("id", NoAsker()).accepted(within_s=0.01)
    monkeypatch.setattr("chat_server.client_reply.SILENT_AT_MOST_S", 0.01)
    with pytest.raises(NoAnswer):
        await Telling().reply.result()
    with pytest.raises(NoAnswer):
        await anext(Telling().reply.__aiter__())
