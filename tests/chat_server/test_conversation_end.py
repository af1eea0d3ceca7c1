from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import anyio
import pytest

from chat_server.conversation_end import end_conversation
from chat_server.errors import ChatError
from memory.errors import StoreBusy
from memory.messages import ConversationId, MessageId, UserId
from memory.upkeep.ledger import Erasure
from tests.chat_server.two_worlds import Process, two_worlds

TALK = ConversationId("talk")


class Door:
    """Takes down what is to be erased."""

    def __init__(self) -> None:
        self.ids: list[MessageId] = []
        self.is_busy = False

    async def delete_conversation(
        self, user: UserId, _conversation: ConversationId, ids: Collection[MessageId]
    ) -> Erasure:
        if self.is_busy:
            raise StoreBusy("too many erasures are not finished")
        self.ids.extend(ids)
        return Erasure(id="e", user=user, messages=tuple(ids), requested_at=1.0)


def with_doors(*processes: Process) -> list[Door]:
    doors = [Door() for _ in processes]
    for process, door in zip(processes, doors, strict=True):
        state = cast("dict[str, Any]", process.state)
        state |= {"fanout": process.world.desk.fanout, "erasures": door}
    return doors


async def test_a_message_that_is_being_stored_at_another_process_is_erased_with_the_rest() -> None:
    async with two_worlds() as (_, one, two), anyio.create_task_group() as tasks:
        doors = with_doors(one, two)
        first = await one.send("first", conversation=TALK)
        await one.world.done(first["run"])
        one.world.long_term.gate = anyio.Event()
        said: list[dict[str, Any]] = []
        erased: list[Erasure] = []

        async def say() -> None:
            said.append(await one.send("second", conversation=TALK))

        async def end() -> None:
            erased.append(await end_conversation(two.state, two.world.user, TALK))

        tasks.start_soon(say)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(end)
        await anyio.wait_all_tasks_blocked()
        assert not erased
        one.world.long_term.gate.set()
        with anyio.fail_after(5):
            while not (erased and said):
                await anyio.sleep(0.01)
        assert {first["message"], first["run"], said[0]["message"], said[0]["run"]} <= set(
            erased[0].messages
        )
        assert doors[0].ids
        assert not doors[1].ids
        for process in (one, two):
            await process.world.until(lambda frame: frame["type"] == "conversation.deleted")
            told = [frame["type"] for frame in process.world.frames if "seq" in frame]
            assert told.count("message.created") == 2


async def test_what_another_process_cannot_delete_it_says_and_goes_on_with() -> None:
    async with two_worlds() as (_, one, two):
        doors = with_doors(one, two)
        one.world.model.gate = anyio.Event()
        first = await one.send("first", conversation=TALK)
        doors[0].is_busy = True
        with pytest.raises(ChatError) as refused:
            await end_conversation(two.state, two.world.user, TALK)
        assert refused.value.code == "store_busy"
        with pytest.raises(ChatError) as unknown:
            await end_conversation(two.state, two.world.user, ConversationId("nothing"))
        assert unknown.value.code == "unknown_conversation"
        one.world.model.gate.set()
        assert (await two.world.done(first["run"]))["status"] == "completed"
