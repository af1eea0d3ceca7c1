from __future__ import annotations

from typing import cast

from memory.chroma_conversations import ConversationWalk
from memory.chroma_lines import ConversationLines
from memory.conversation_tree import Node
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import Message, UserId
from tests.contracts.long_term_world import (
    DIMENSION,
    TEA,
    chat,
    headed,
    line,
    said,
    somebody,
    store,
)


class Walk:
    """The walk over one line, which is all there is."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    async def up_to(self, leaf: str, depth: int, limit: int) -> list[Message]:
        assert self._messages[depth].id == leaf
        return self._messages[: depth + 1][-limit:]

    async def newest_leaf_below(self, _top: Message) -> Node:
        last = self._messages[-1]
        return Node(last.id, last.parent, last.depth)

    async def latest(self, limit: int) -> list[Message]:
        return self._messages[-limit:]


async def lines_of(
    user: UserId, messages: list[Message]
) -> tuple[InProcessLongTermMemory, ConversationLines]:
    memory = InProcessLongTermMemory(dimension=DIMENSION)
    await store(memory, messages)
    walk = cast("ConversationWalk", Walk(messages))
    return memory, ConversationLines(memory, walk, user, TEA)


async def test_a_head_that_is_missing_is_passed_over() -> None:
    user = somebody()
    messages = line(user, 3)
    memory, lines = await lines_of(user, messages)
    assert await lines.latest(2) == messages[1:]
    await memory.save_conversation(headed(chat(user, TEA), said(user)))
    assert await lines.latest(2) == messages[1:]
    await memory.save_conversation(headed(chat(user, TEA), messages[0]))
    assert await lines.latest(2) == messages[1:]


async def test_what_leads_to_a_message_and_what_goes_on_below_it() -> None:
    user = somebody()
    messages = line(user, 3)
    _, lines = await lines_of(user, messages)
    assert await lines.before(messages[2].id, 5) == messages[:2]
    assert await lines.before(messages[0].id, 5) == []
    assert await lines.before(said(user).id, 5) == []
    assert await lines.through(messages[0].id, 5) == messages
    assert await lines.through(said(user).id, 5) == []
