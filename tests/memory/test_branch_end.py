from __future__ import annotations

from msgspec.structs import replace

from memory.branch_end import branch_end
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import Conversation, ConversationId, Message, MessageId, UserId
from tests.memory.hot_world import VECTOR

ANA, TALK = UserId("ana"), ConversationId("talk")


def said(name: str, after: Message | None = None) -> Message:
    return Message(
        id=MessageId(name),
        user=ANA,
        conversation=TALK,
        role="user",
        text=name,
        timestamp=1.0,
        depth=after.depth + 1 if after else 0,
        parent=after.id if after else None,
    )


async def store_of(*messages: Message) -> InProcessLongTermMemory:
    store = InProcessLongTermMemory(dimension=len(VECTOR))
    for message in messages:
        await store.append(message, VECTOR)
    return store


async def end_behind(store: InProcessLongTermMemory, message: Message) -> str | None:
    end = await branch_end(store, ANA, TALK, message.id)
    return end.id if end else None


async def test_a_message_that_nothing_follows_is_its_own_end() -> None:
    store = await store_of(first := said("m1"))
    assert await end_behind(store, first) == "m1"


async def test_the_end_of_a_long_line_is_found_from_any_message_of_it() -> None:
    line = [said("m0")]
    for n in range(1, 50):
        line.append(said(f"m{n}", line[-1]))
    store = await store_of(*line)
    for message in (line[0], line[30], line[49]):
        assert await end_behind(store, message) == "m49"


async def test_it_stays_on_the_branch_of_the_message() -> None:
    root = said("m1")
    left, right = said("left", root), said("right", root)
    store = await store_of(root, left, right, said("right-end", right))
    assert await end_behind(store, left) == "left"
    assert await end_behind(store, right) == "right-end"


async def test_where_both_branches_follow_the_one_that_is_shown_holds() -> None:
    root = said("m1")
    left, right = said("left", root), said("right", root)
    store = await store_of(root, left, said("left-end", left), right)
    assert await end_behind(store, root) == "left-end"
    await store.save_conversation(
        Conversation(
            id=TALK, user=ANA, title="t", created_at=1.0, updated_at=1.0, head=MessageId("right")
        )
    )
    assert await end_behind(store, root) == "right"


async def test_what_is_not_stored_here_has_no_end() -> None:
    message = said("m1")
    store = await store_of(replace(message, conversation=ConversationId("other")))
    assert await end_behind(store, message) is None
    assert await end_behind(store, said("unknown")) is None
