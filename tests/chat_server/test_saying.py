"""Saying something in the place of a message: what it does to the tree, and what is shown."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chat_server.authentication import Identity
from chat_server.errors import ChatError
from memory.messages import ConversationId, Message, MessageId, UserId
from tests.chat_server.twin_world import TwinWorld, twin_world

TALK = ConversationId("talk")


async def shown(world: TwinWorld) -> list[str]:
    return [text for _, text, _ in await world.stored("talk")]


async def stored(world: TwinWorld, message: str) -> Message:
    [found] = await world.long_term.by_ids(world.user, [MessageId(message)])
    return found


async def said(world: TwinWorld, *texts: str) -> list[dict[str, Any]]:
    """Say *texts* one after the other, each answered by itself in other letters."""
    accepted = []
    for text in texts:
        world.model.pieces = [f"To {text}"]
        accepted.append(await world.take(text, conversation="talk"))
        await world.done(accepted[-1]["run"])
    return accepted


async def test_an_edit_stands_beside_what_it_replaces_and_is_shown() -> None:
    async with twin_world() as world:
        _, second = await said(world, "One", "Two")
        world.model.pieces = ["To Deux"]
        edit = await world.edit(second["message"], "Deux")
        assert edit["conversation"] == "talk"
        await world.done(edit["run"])
        old, new = await stored(world, second["message"]), await stored(world, edit["message"])
        assert (new.parent, new.depth, new.role) == (old.parent, old.depth, "user")
        assert await shown(world) == ["One", "To One", "Deux", "To Deux"]
        line = await world.long_term.line(world.user, TALK, limit=10)
        assert line.branches == {new.id: (old.id, new.id)}
        window = [message.text for message in world.model.prompts[-1].window]
        assert window == ["One", "To One"], "not the other branch"


async def test_the_first_message_of_a_conversation_can_be_edited() -> None:
    async with twin_world() as world:
        [first] = await said(world, "One")
        edit = await world.edit(first["message"], "Uno")
        await world.done(edit["run"])
        new = await stored(world, edit["message"])
        assert (new.parent, new.depth) == (None, 0)
        assert not world.model.prompts[-1].window
        await said(world, "And then?")
        assert await shown(world) == ["Uno", "To One", "And then?", "To And then?"]
        window = [message.text for message in world.model.prompts[-1].window]
        assert window == ["Uno", "To One"]


async def test_all_tabs_hear_of_the_branch_that_is_shown() -> None:
    async with twin_world() as world:
        [first] = await said(world, "One")
        edit = await world.edit(first["message"], "Uno")
        updated = await world.until(
            lambda frame: (
                frame["type"] == "conversation.updated"
                and frame["conversation"]["head"] is not None
            )
        )
        assert updated["conversation"]["head"] == edit["message"]
        created = await world.until(lambda frame: frame["type"] == "message.created")
        assert created["message"]["id"] == edit["message"]


async def test_an_edit_that_is_repeated_is_stored_once() -> None:
    async with twin_world() as world:
        first, second = await said(world, "One", "Two")
        edits = [await world.edit(second["message"], "Deux", id="edit") for _ in range(3)]
        await world.done(edits[0]["run"])
        edits.append(await world.edit(second["message"], "Deux", id="edit"))
        assert {(edit["message"], edit["run"]) for edit in edits} == {
            (edits[0]["message"], edits[0]["run"])
        }
        assert [edit["duplicate"] for edit in edits] == [False, True, True, True]
        with pytest.raises(ChatError) as refused:
            await world.edit(second["message"], "Zwei", id="edit")
        assert (refused.value.code, refused.value.field) == ("id_conflict", "id")
        # What was chosen since stays chosen.
        await world.edit(first["message"], "Uno", id="other")
        await world.edit(second["message"], "Deux", id="edit")
        assert (await shown(world))[0] == "Uno"


@pytest.mark.parametrize("which", ["unknown", "reply", "deleted", "foreign"])
async def test_only_the_users_own_words_can_be_edited(which: str) -> None:
    async with twin_world() as world:
        [first] = await said(world, "One")
        message = {"reply": first["run"], "unknown": "munknown"}.get(which, first["message"])
        if which == "deleted":
            await world.long_term.delete(world.user, [first["message"]])
        if which == "foreign":
            world.identity = Identity(UserId("eve"), None)
        with pytest.raises(ChatError) as refused:
            await world.edit(message, "Uno")
        assert (refused.value.code, refused.value.field) == ("unknown_message", "message")


async def test_an_edit_needs_visible_text() -> None:
    async with twin_world() as world:
        [first] = await said(world, "One")
        with pytest.raises(ChatError) as refused:
            await world.edit(first["message"], " ")
        assert (refused.value.code, refused.value.field) == ("empty_text", "text")


async def test_what_is_edited_is_not_remembered_for_what_takes_its_place() -> None:
    async with twin_world() as world:
        await said(world, "The blue door is locked today.")
        [asked] = await said(world, "Is the blue door locked today or tomorrow?")
        edit = await world.edit(asked["message"], "Is the blue door locked today or on Monday?")
        await world.done(edit["run"])
        remembered = [memory.id for memory in world.model.prompts[-1].memories]
        assert asked["message"] not in remembered
        assert asked["run"] not in remembered


async def test_a_reply_in_the_making_follows_what_was_edited_meanwhile() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        first = await world.take("One", conversation="talk")
        second = await world.take("Two", conversation="talk")
        edit = await world.edit(second["message"], "Deux")
        world.model.rest.set()
        for accepted in (first, second, edit):
            await world.done(accepted["run"])
        assert (await stored(world, first["run"])).parent == edit["message"]
        assert (await stored(world, second["run"])).parent == second["message"]
        assert (await stored(world, edit["run"])).parent == first["run"]
        assert await shown(world) == ["One", "Deux", "Well, hello.", "Well, hello."]
        window = [message.text for message in world.model.prompts[-1].window]
        assert window == ["One", "Well, hello."]


async def test_an_edit_waits_in_the_lane_as_a_message_does() -> None:
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        accepted = [await world.take("One", conversation="talk")]
        for n in range(4):
            accepted.append(await world.edit(accepted[0]["message"], f"Edit {n}"))
        with pytest.raises(ChatError) as refused:
            await world.edit(accepted[0]["message"], "One too many")
        assert refused.value.code == "busy"
        world.model.rest.set()
        for each in accepted:
            assert (await world.done(each["run"]))["status"] == "completed"
        line = await world.long_term.line(world.user, TALK, limit=10)
        assert [message.text for message in line.messages] == ["Edit 3", "Well, hello."]
        assert len(line.branches[line.messages[0].id]) == 5


async def test_an_edit_whose_reply_was_lost_is_answered_on_its_own_branch() -> None:
    async with twin_world() as world:
        first, second = await said(world, "One", "Two")
        world.model.gate = anyio.Event()
        edit = await world.edit(first["message"], "Uno", id="edit")
        world.desk.runs.find(world.user, edit["run"]).end("abandoned")  # type: ignore[union-attr]  # it lives: the model waits
        await world.desk.runs.wait_idle()
        world.model.gate = None
        again = await world.edit(second["message"], "Deux")
        await world.done(again["run"])
        once_more = await world.edit(first["message"], "Uno", id="edit")
        assert once_more["duplicate"]
        await world.done(once_more["run"])
        assert (await stored(world, edit["run"])).parent == edit["message"]
