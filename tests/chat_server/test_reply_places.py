"""Where replies stand; by their ids and the store alone."""

from __future__ import annotations

from chat_server.reply_places import ReplyPlaces
from chat_server.runs import Lane, Run
from memory.messages import ConversationId, Message, MessageId, UserId, reply_id
from tests.chat_server.twin_world import TwinWorld, twin_world

TALK = ConversationId("talk")


def said(name: str, after: Message | None = None, *, reply_to: Message | None = None) -> Message:
    return Message(
        id=MessageId(name),
        user=UserId("ana"),
        conversation=TALK,
        role="assistant" if reply_to else "user",
        text=name,
        timestamp=1.0,
        depth=after.depth + 1 if after else 0,
        parent=after.id if after else None,
        reply_to=reply_to.id if reply_to else None,
    )


def reply(to: Message, attempt: int | str = 0, *, after: Message | None = None) -> Message:
    return said(reply_id(to.id, attempt), after or to, reply_to=to)


async def store(world: TwinWorld, *messages: Message) -> None:
    for message in messages:
        await world.long_term.append(message, await world.desk.memory.embed(message.text))


async def test_one_that_was_asked_for_anew_stands_where_the_first_one_does() -> None:
    async with twin_world() as world:
        places, lane = ReplyPlaces(world.desk.memory), Lane()
        question = said("q1")
        meanwhile = said("q2", question)
        first = reply(question, after=meanwhile)
        anew = reply(question, "again")
        assert await places.parent(anew, None, lane) is None, "its question is not stored"
        await store(world, question, meanwhile)
        assert await places.parent(anew, None, lane) == question
        await store(world, first, said("q3", first))
        assert await places.parent(anew, None, lane) == meanwhile
        await world.long_term.delete(world.user, [first.id])
        assert await places.parent(anew, None, lane) == meanwhile, "what is deleted keeps its place"


async def test_a_first_reply_follows_what_was_said_last_on_its_branch() -> None:
    async with twin_world() as world:
        places, lane = ReplyPlaces(world.desk.memory), Lane()
        question = said("q1")
        second = said("q2", question)
        run = Run(question, lane)
        lane.runs.append(run)
        await store(world, question, second)
        assert await places.parent(reply(question), None, lane) == second
        assert await places.parent(reply(question), run, lane) == question, "as its run knows it"
        lane.doubt()
        assert await places.parent(reply(question), run, lane) == second


async def test_a_recovered_one_is_shown_unless_something_waits_elsewhere() -> None:
    async with twin_world() as world:
        places = ReplyPlaces(world.desk.memory)
        question = said("q1")
        first, anew = reply(question), reply(question, "again")
        await store(world, question)
        await world.desk.memory.conversations.begin(question)
        assert not await places.will_be_shown(first, None), "it follows what is shown"
        assert await places.will_be_shown(anew, None)
        await store(world, first)
        assert await places.will_be_shown(anew, None)
        second = said("q2", first)
        await store(world, second)
        assert not await places.will_be_shown(anew, None)
        known = await world.desk.memory.conversations.find(world.user, TALK)
        assert known is not None
        assert known.head == second.id, "what is newer does not hide it"
