"""What every long-term memory must say of branches, and of a conversation that leaves the list."""

from __future__ import annotations

from memory.long_term import Line, LongTermMemory
from memory.messages import ConversationId, MessageId, UserId
from memory.records import conversation_record_id
from tests.contracts.long_term_world import (
    TEA,
    chat,
    headed,
    line,
    said,
    somebody,
    store,
    store_at_once,
)


class BranchesContract:
    """Part of the suite for long-term memory."""

    async def test_a_line_says_what_stands_in_the_place_of_each_of_its_messages(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        first, second, third = trunk = line(user, 3)
        other_first, other_third = said(user, "edited"), said(user, "anew", after=second)
        last_third = said(user, "once more", after=second)
        below = said(user, "below", after=other_first)
        await store(memory, [*trunk, other_first, other_third, below, last_third])
        roots = (first.id, other_first.id)
        thirds = (third.id, other_third.id, last_third.id)
        shown = await memory.line(user, TEA, limit=10)
        assert shown.messages == (first, second, last_third)
        assert shown.branches == {first.id: roots, last_third.id: thirds}
        assert await memory.line(user, TEA, limit=2) == Line(
            (second, last_third), {last_third.id: thirds}
        )
        assert await memory.line(user, TEA, limit=10, before=other_third.id) == Line(
            (first, second), {first.id: roots}
        )

    async def test_a_line_through_any_message_ends_with_the_newest_leaf_below_it(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        trunk = line(user, 70)
        left, right = line(user, 3, after=trunk[40]), line(user, 40, after=trunk[40])
        await store_at_once(memory, trunk)
        await store(memory, [*right, *left])
        await memory.save_conversation(headed(chat(user, TEA), trunk[41]))
        assert await memory.latest(user, TEA, limit=5) == trunk[-5:]
        found = await memory.line(user, TEA, limit=5, head=left[1].id)
        assert found.messages == (*trunk[39:41], *left)
        assert found.branches == {left[0].id: (trunk[41].id, right[0].id, left[0].id)}
        assert (await memory.line(user, TEA, limit=3, head=right[0].id)).messages == (*right[-3:],)
        newest = await memory.line(user, TEA, limit=3, head=trunk[0].id)
        assert newest.messages == tuple(left)

    async def test_there_is_no_line_through_what_is_not_in_the_conversation(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        await store(memory, line(user, 2))
        stray = said(user, conversation=ConversationId("other"))
        foreign = said(somebody("eve"))
        await store(memory, [stray, foreign])
        for head in (stray.id, foreign.id, MessageId("unknown")):
            assert await memory.line(user, TEA, limit=5, head=head) == Line()
        assert await memory.line(user, TEA, limit=0) == Line()

    async def test_a_conversation_leaves_the_list_and_its_messages_stay(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        other = somebody("ben")
        messages = line(user, 2)
        await store(memory, messages)
        for owner, name in ((user, "tea"), (user, "coffee"), (other, "tea")):
            await memory.save_conversation(chat(owner, name))
        for _ in range(2):
            await memory.unlist(user, [conversation_record_id(user, TEA), "unknown"])
        await memory.unlist(user, [conversation_record_id(other, TEA)])
        await memory.unlist(user, [])
        assert await memory.conversation(user, TEA) is None
        [left] = (await memory.conversations(user, limit=10)).conversations
        assert left.id == "coffee"
        assert await memory.conversation(other, TEA) == chat(other, "tea")
        assert await memory.latest(user, TEA, limit=10) == messages
