"""Another reply to the same question: where it stands, what is shown, and once for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from chat_server.authentication import Identity
from chat_server.errors import ChatError
from memory.errors import StoreUnavailable
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import ConversationId, Message, MessageId, UserId, reply_id
from memory.short_term import ShortTermPolicy
from tests.chat_server.twin_world import TwinWorld, twin_world

TALK = ConversationId("talk")


async def line(world: TwinWorld) -> list[str]:
    return [text for _, text, _ in await world.stored("talk")]


async def stored(world: TwinWorld, message: str) -> Message:
    [found] = await world.long_term.by_ids(world.user, [MessageId(message)])
    return found


def written(journal: Path) -> bool:
    return any(segment.stat().st_size for segment in journal.iterdir())


async def asked(world: TwinWorld, *texts: str) -> list[dict[str, Any]]:
    """Ask *texts* one after the other."""
    accepted = []
    for text in texts:
        world.model.pieces = [f"To {text}"]
        accepted.append(await world.take(text, conversation="talk"))
        await world.done(accepted[-1]["run"])
    return accepted


@pytest.mark.parametrize("named", ["run", "message"])
async def test_another_reply_stands_beside_the_first_and_is_shown(named: str) -> None:
    async with twin_world() as world:
        first, _ = await asked(world, "One", "Two")
        world.model.pieces = ["Anew"]
        accepted = await world.regenerate(first[named], id="again")
        assert accepted["run"] == reply_id(MessageId(first["message"]), "again")
        assert (accepted["message"], accepted["conversation"]) == (first["message"], "talk")
        done = await world.done(accepted["run"])
        assert done["message"]["reply_to"] == first["message"]
        old, new = await stored(world, first["run"]), await stored(world, accepted["run"])
        assert (new.parent, new.depth, new.role) == (old.parent, old.depth, "assistant")
        assert old.text == "To One"
        assert await line(world) == ["One", "Anew"]
        assert not world.model.prompts[-1].window, "what led to the question, and no more"
        updated = await world.until(lambda frame: frame["type"] == "conversation.updated")
        assert updated["conversation"]["head"] == accepted["run"]
        await asked(world, "Then")
        assert await line(world) == ["One", "Anew", "Then", "To Then"]
        window = [message.text for message in world.model.prompts[-1].window]
        assert window == ["One", "Anew"]


async def test_a_repeated_command_names_the_same_reply_for_ever() -> None:
    store = InProcessLongTermMemory()
    async with twin_world(long_term=store) as world:
        [first] = await asked(world, "One")
        world.model.rest = anyio.Event()
        world.model.pieces = ["A", "new", "."]
        runs = [await world.regenerate(first["run"], id="again") for _ in range(2)]
        world.model.rest.set()
        await world.done(runs[0]["run"])
        runs.append(await world.regenerate(first["message"], id="again"))
        runs.append(await world.regenerate(runs[0]["run"], id="again"))
    async with twin_world(long_term=store) as world:
        runs.append(await world.regenerate(first["run"], id="again"))
        assert len(world.model.prompts) == 0
        assert [accepted["duplicate"] for accepted in runs] == [False, True, True, True, True]
        assert len({accepted["run"] for accepted in runs}) == 1
        other = await world.regenerate(first["run"], id="another")
        await world.done(other["run"])
        found = await store.line(world.user, TALK, limit=10)
        assert found.branches[other["run"]] == (first["run"], runs[0]["run"], other["run"])


async def test_it_spends_the_limit_and_waits_its_turn_as_a_message_does() -> None:
    async with twin_world(ShortTermPolicy(user_limit=6)) as world:
        [first] = await asked(world, "One")
        world.model.rest = anyio.Event()
        world.model.pieces = ["A", "new", "."]
        runs = [await world.regenerate(first["run"], id=f"again-{n}") for n in range(5)]
        with pytest.raises(ChatError) as refused:
            await world.regenerate(first["run"])
        assert refused.value.code == "busy"
        assert await world.regenerate(first["run"], id="again-4") == {
            **runs[4],
            "duplicate": True,
        }
        assert len(world.desk.runs) == 5
        world.model.rest.set()
        for accepted in runs:
            assert (await world.done(accepted["run"]))["status"] == "completed"
        with pytest.raises(ChatError) as refused:
            await world.regenerate(first["run"])
        assert refused.value.code == "rate_limited"
        replies = [await stored(world, accepted["run"]) for accepted in runs]
        assert {(reply.parent, reply.depth) for reply in replies} == {(first["message"], 1)}


@pytest.mark.parametrize("which", ["unknown", "question deleted", "foreign"])
async def test_what_has_no_question_cannot_be_answered_anew(which: str) -> None:
    async with twin_world() as world:
        [first] = await asked(world, "One")
        if which == "question deleted":
            await world.long_term.delete(world.user, [first["message"]])
        if which == "foreign":
            world.identity = Identity(UserId("eve"), None)
        with pytest.raises(ChatError) as refused:
            await world.regenerate("munknown" if which == "unknown" else first["run"])
        assert (refused.value.code, refused.value.field) == ("unknown_message", "message")


async def test_it_waits_for_the_reply_it_stands_beside() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        first = await world.take("One", conversation="talk")
        accepted = await world.regenerate(first["run"])
        second = await world.take("Two", conversation="talk")
        world.model.rest.set()
        for run in (first["run"], accepted["run"], second["run"]):
            await world.done(run)
        old, new = await stored(world, first["run"]), await stored(world, accepted["run"])
        assert (new.parent, new.depth) == (old.parent, old.depth)


async def test_what_was_said_meanwhile_stays_shown() -> None:
    async with twin_world() as world:
        [first] = await asked(world, "One")
        world.model.rest = anyio.Event()
        world.model.pieces = ["A", "new", "."]
        accepted = await world.regenerate(first["run"])
        second = await world.take("Two", conversation="talk")
        world.model.rest.set()
        await world.done(accepted["run"])
        await world.done(second["run"])
        assert await line(world) == ["One", "To One", "Two", "Anew."]
        window = [message.text for message in world.model.prompts[-1].window]
        assert window == ["One", "To One"], "of its own branch"


async def test_a_stopped_one_keeps_its_words_and_an_empty_one_is_not_shown() -> None:
    async with twin_world() as world:
        [first] = await asked(world, "One")
        world.model.rest = anyio.Event()
        world.model.pieces = ["A", "new", "."]
        live = await world.regenerate(first["run"])
        waiting = await world.regenerate(first["run"])
        await world.until(
            lambda frame: frame["type"] == "run.delta" and frame["run"] == live["run"]
        )
        for accepted in (waiting, live):
            world.desk.runs.find(world.user, accepted["run"]).end("stopped")  # type: ignore[union-attr]  # both are there
        for accepted in (live, waiting):
            assert (await world.done(accepted["run"]))["status"] == "stopped"
        assert (await stored(world, live["run"])).text == "Anew"
        assert await line(world) == ["One", "Anew"]


@pytest.mark.parametrize("chosen", ["nothing", "an edit"])
async def test_one_that_is_not_shown_takes_the_place_of_nothing(chosen: str) -> None:
    async with twin_world() as world:
        [first] = await asked(world, "One")
        said = ["One", "To One"]
        if chosen == "an edit":
            first = await world.edit(first["message"], "Uno")
            await world.done(first["run"])
            said = ["Uno", "To One"]
        world.model.gate = anyio.Event()
        empty = await world.regenerate(first["run"])
        world.desk.runs.find(world.user, empty["run"]).end("stopped")  # type: ignore[union-attr]  # it lives: the model waits
        await world.done(empty["run"])
        assert await line(world) == said
        overtaken = await world.regenerate(first["run"])
        second = await world.take("Two", conversation="talk")
        world.model.gate.set()
        world.model.gate, world.model.rest = None, anyio.Event()
        world.model.pieces = ["A", "nswer", "."]
        await world.until(
            lambda frame: frame["type"] == "run.delta" and frame["run"] == overtaken["run"]
        )
        world.model.rest.set()
        world.model.rest = None
        world.model.gate = anyio.Event()
        await world.done(overtaken["run"])
        assert await line(world) == [*said, "Two"], "before it is answered, too"
        world.model.gate.set()
        await world.done(second["run"])
        assert await line(world) == [*said, "Two", "Answer."]


async def test_what_was_deleted_while_it_waited_is_in_no_prompt() -> None:
    async with twin_world() as world:
        first, second = await asked(world, "One", "Two")
        world.model.rest = anyio.Event()
        world.model.pieces = ["A", "new", "."]
        live = await world.regenerate(second["run"])
        waiting = await world.regenerate(second["run"])
        third = await world.take("Three", conversation="talk")
        await world.long_term.delete(world.user, [MessageId(first["message"])])
        world.model.rest.set()
        for accepted in (live, waiting, third):
            await world.done(accepted["run"])
        windows = [[said.text for said in prompt.window] for prompt in world.model.prompts[-2:]]
        assert windows == [["To One"], ["To One", "Two", "To Two"]]


async def test_a_question_without_a_reply_gets_one_right_behind_it() -> None:
    async with twin_world() as world:
        world.model.gate = anyio.Event()
        lost = await world.take("One", conversation="talk")
        world.desk.runs.find(world.user, lost["run"]).end("abandoned")  # type: ignore[union-attr]  # it lives: the model waits
        await world.desk.runs.wait_idle()
        world.model.gate = None
        await asked(world, "Two")
        world.model.pieces = ["Late"]
        accepted = await world.regenerate(lost["message"])
        await world.done(accepted["run"])
        assert (await stored(world, accepted["run"])).parent == lost["message"]
        assert await line(world) == ["One", "Late"]


async def test_an_imported_reply_has_a_question_too() -> None:
    async with twin_world() as world:
        question = Message(
            id=MessageId("mq"), user=world.user, conversation=TALK, role="user", text="One",
            timestamp=1.0, depth=0,
        )  # fmt: skip
        reply = Message(
            id=MessageId("ma"), user=world.user, conversation=TALK, role="assistant", text="Uno",
            timestamp=2.0, depth=1, parent=question.id,
        )  # fmt: skip
        for message in (question, reply):
            await world.long_term.append(message, await world.desk.memory.embed(message.text))
        await world.desk.memory.conversations.begin(question)
        accepted = await world.regenerate("ma")
        await world.done(accepted["run"])
        assert (await stored(world, accepted["run"])).parent == "mq"
        assert await line(world) == ["One", "Well, hello."]


async def test_the_old_reply_is_not_remembered_for_the_new_one() -> None:
    async with twin_world() as world:
        await asked(world, "The blue door is locked today.")
        world.model.pieces = ["The blue door is locked today, and tomorrow as well."]
        first = await world.take("Is the blue door locked today?", conversation="talk")
        await world.done(first["run"])
        accepted = await world.regenerate(first["run"])
        await world.done(accepted["run"])
        assert first["run"] not in [memory.id for memory in world.model.prompts[-1].memories]


@pytest.mark.parametrize("shown_words", ["interrupted", "whole"])
async def test_what_a_dead_process_had_shown_of_it_stands_beside_the_first(
    tmp_path: Path, shown_words: str
) -> None:
    store = InProcessLongTermMemory()
    async with twin_world(long_term=store, journal_folder=tmp_path) as world:
        first, _ = await asked(world, "One", "Two")
        world.model.pieces = ["A", "new", "."]
        if shown_words == "interrupted":
            world.model.rest = anyio.Event()
        else:
            world.model.gate = anyio.Event()
        accepted = await world.regenerate(first["run"])
        if shown_words == "interrupted":
            await world.until(
                lambda frame: frame["type"] == "run.delta" and frame["run"] == accepted["run"]
            )
            with anyio.fail_after(10):
                while not written(tmp_path):
                    await anyio.sleep(0.02)
        else:
            store.away = True
            world.model.gate.set()  # type: ignore[union-attr]  # it was set above
            with anyio.fail_after(10):
                while not world.desk.journal.kept:
                    await anyio.sleep(0.02)
    store.away = False
    async with twin_world(long_term=store, journal_folder=tmp_path) as world:
        with anyio.fail_after(10):
            while world.desk.late:
                await anyio.sleep(0.02)
        old, new = await stored(world, first["run"]), await stored(world, accepted["run"])
        assert (new.parent, new.depth) == (old.parent, old.depth)
        assert await line(world) == ["One", "Anew" if shown_words == "interrupted" else "Anew."]


async def test_what_waits_for_the_store_finds_its_place_when_it_is_back() -> None:
    async with twin_world() as world:
        [first] = await asked(world, "One")
        world.model.pieces = ["Anew"]
        world.model.gate = anyio.Event()
        accepted = await world.regenerate(first["run"])
        world.long_term.fail_next_append(StoreUnavailable("away"))
        world.model.gate.set()
        await world.done(accepted["run"])
        assert await line(world) == ["One", "Anew"]
