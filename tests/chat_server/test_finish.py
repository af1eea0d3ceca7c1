from __future__ import annotations

import hashlib

import anyio
import pytest
from structlog.testing import capture_logs

from chat_server import finish, late_replies
from memory import open_replies
from memory.errors import StoreUnavailable
from memory.messages import ConversationId, Message, MessageId
from tests.chat_server.twin_world import TwinWorld, twin_world


async def accepted_and_waiting(world: TwinWorld, text: str = "Hello?") -> str:
    """Send; the run's id, while the model waits before its first word."""
    world.model.gate = anyio.Event()
    run: str = (await world.take(text, conversation="talk"))["run"]
    return run


def let_it_speak(world: TwinWorld) -> None:
    assert world.model.gate is not None
    world.model.gate.set()
    world.model.gate = None


async def test_the_end_carries_all_that_a_client_needs_to_check_its_copy() -> None:
    async with twin_world() as world:
        done = await world.ask("Hello?", conversation="talk")
        text = "Well, hello."
        assert (done["message"]["text"], done["chars"]) == (text, len(text))
        assert done["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert "stored" not in done, "it is said only where it is not so"
        assert done["usage"] == {"input_tokens": 7, "output_tokens": 4}
        assert (done["model"], done["message"]["model"]) == ("scripted", "scripted")
        assert {"commit", "reply", "commit_reply", "total"} <= set(done["timings_ms"])
        assert done["message"]["id"] == done["run"]
        assert await world.stored("talk") == [
            ("user", "Hello?", "completed"),
            ("assistant", text, "completed"),
        ]


async def test_after_the_end_the_conversation_is_told_with_its_new_time() -> None:
    async with twin_world() as world:
        done = await world.ask("Hello?", conversation="talk")
        updated = await world.until(lambda frame: frame["type"] == "conversation.updated")
        assert updated["conversation"]["updated_at"] == done["message"]["timestamp"]
        assert updated["seq"] == done["seq"] + 1


async def test_a_store_that_comes_back_in_time_has_the_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(late_replies, "FIRST_PAUSE_S", 0.001)
    async with twin_world() as world:
        run = await accepted_and_waiting(world)
        for _ in range(3):
            world.long_term.fail_next_append(StoreUnavailable("away"))
        with capture_logs() as logs:
            let_it_speak(world)
            done = await world.done(run)
        assert not {"stored", "kept"} & set(done)
        assert "reply.not_stored_yet" in [entry["event"] for entry in logs]
        assert len(await world.stored("talk")) == 2
        assert world.desk.journal.kept == ()


async def test_a_store_that_stays_away_is_told_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finish, "STORE_WITHIN_S", 0.02)
    monkeypatch.setattr(late_replies, "FIRST_PAUSE_S", 0.001)
    async with twin_world() as world:
        run = await accepted_and_waiting(world)
        world.long_term.away = True
        with capture_logs() as logs:
            let_it_speak(world)
            done = await world.done(run)
            await world.desk.runs.wait_idle()
        assert (done["stored"], done["kept"]) == (False, True)
        assert "error" not in done
        assert done["message"]["text"] == "Well, hello."
        assert not any("hello" in str(entry).lower() for entry in logs)
        assert [message.text for message in world.desk.journal.kept] == ["Well, hello."]
        world.long_term.away = False
        created = await world.until(
            lambda frame: frame["type"] == "message.created" and frame["message"]["id"] == run
        )
        assert created["message"]["text"] == "Well, hello."
        assert created["message"]["parent"] == done["message"]["reply_to"]
        assert await world.stored("talk") == [
            ("user", "Hello?", "completed"),
            ("assistant", "Well, hello.", "completed"),
        ]
        assert world.desk.journal.kept == ()


async def test_what_can_be_neither_stored_nor_kept_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finish, "STORE_WITHIN_S", 0.02)
    monkeypatch.setattr(open_replies, "MAX_KEPT_CHARS", 3)
    async with twin_world() as world:
        run = await accepted_and_waiting(world)
        world.long_term.away = True
        let_it_speak(world)
        done = await world.done(run)
        assert done["stored"] is False
        assert "kept" not in done
        assert done["error"]["code"] == "not_stored"


async def test_a_reply_that_another_server_stored_first_is_the_one_that_holds() -> None:
    async with twin_world() as world:
        run = await accepted_and_waiting(world)
        [question] = await world.long_term.latest(world.user, ConversationId("talk"), limit=1)
        other = Message(
            id=MessageId(run),
            user=world.user,
            conversation=question.conversation,
            role="assistant",
            text="I was faster.",
            timestamp=question.timestamp,
            depth=1,
            parent=question.id,
        )
        await world.long_term.append(other, await world.desk.memory.embed(other.text))
        with capture_logs() as logs:
            let_it_speak(world)
            done = await world.done(run)
        assert done["message"]["text"] == "I was faster."
        assert "stored" not in done
        assert done["chars"] == len("I was faster.")
        assert "reply.made_twice" in [entry["event"] for entry in logs]
        assert [text for _, text, _ in await world.stored("talk")] == ["Hello?", "I was faster."]


async def test_one_line_sums_the_turn_up_without_its_words() -> None:
    async with twin_world() as world:
        with capture_logs() as logs:
            await world.ask("My secret is safe.", conversation="talk")
            await world.desk.runs.wait_idle()
        [entry] = [entry for entry in logs if entry["event"] == "turn.finished"]
        assert (entry["status"], entry["model"], entry["stored"]) == ("completed", "scripted", True)
        assert entry["chars"] == len("Well, hello.")
        assert entry["total_ms"] >= 0
        assert "secret" not in str(logs)
