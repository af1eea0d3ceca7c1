"""The end of a conversation: all that was said in it is erased, where it is seen to."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

from chat_server.courier import Courier
from chat_server.errors import ChatError
from chat_server.events import ConversationDeleted, ConversationGone
from chat_server.letters import Asked
from chat_server.state import State
from memory.live.broker import NodeId
from memory.long_term import LongTermMemory
from memory.messages import ConversationId, MessageId, UserId
from memory.upkeep.ledger import Erasure

WITHIN_S: Final = 12.0
"""A message is being stored there, and then all that was said is looked up."""

_erasures: Final = msgspec.json.Decoder(Erasure)


async def end_conversation(state: State, user: UserId, conversation: ConversationId) -> Erasure:
    """Erase a conversation with all that was said in it: at once for everybody who reads, and from
    the files some seconds later. Replies that are being made end without a word. The user's
    connections are told.

    It happens in the process that has the conversation in hand: nothing is being stored in it then,
    and nothing is told of it afterwards.

    Raises:
        ChatError: ``unknown_conversation``; ``not_ready``: that process says nothing, again is
            safe.
        MemoryFault: it cannot be read, or too many erasures are not finished.
    """
    async with state["switchboard"].holder(user, conversation) as holder:
        if holder is None:
            return await _end_here(state, user, conversation)
        return await _end_there(*holder, user, conversation)


async def _end_there(
    node: NodeId, courier: Courier, user: UserId, conversation: ConversationId
) -> Erasure:
    asked = Asked(number=courier.next_number(), user=user, deletes=conversation)
    erasures: list[Erasure] = []

    def note(payload: bytes) -> None:
        erasures.append(_erasures.decode(payload))

    with suppress(TimeoutError):
        await courier.ask(node, asked, note, within_s=WITHIN_S)
    if not erasures:
        raise ChatError(
            "not_ready", "the conversation's process does not answer", retry_after_ms=500
        )
    return erasures[0]


async def _end_here(state: State, user: UserId, conversation: ConversationId) -> Erasure:
    async with state["runs"].lane(user, conversation) as lane:
        if await state["memory"].conversations.find(user, conversation) is None:
            raise ChatError("unknown_conversation", "no such conversation")
        ids = await _all_messages(state["memory"].long_term, user, conversation)
        ids += [run.reply for run in lane.runs]
        ids += [reply.id for reply in state["late"].of_conversation(user, conversation)]
        erasure = await state["erasures"].delete_conversation(user, conversation, ids)
        state["runs"].abandon_lane(lane)
        state["late"].forget_conversation(user, conversation)
        lane.head = None
        await state["memory"].drop_windows(user, [conversation])
    state["switchboard"].tell_rearranged(user, conversation, gone=True)
    gone = ConversationGone(id=conversation)
    state["fanout"].publish(user, ConversationDeleted(conversation=gone))
    return erasure


async def _all_messages(
    store: LongTermMemory, user: UserId, conversation: ConversationId
) -> list[MessageId]:
    """The ids of all messages of a conversation, on all of its branches."""
    found: list[MessageId] = []
    depth: int | None = 0
    while depth is not None:
        page = await store.tree(user, conversation, depth=depth)
        found += [message.id for message in page.messages]
        depth = page.depth
    return found
