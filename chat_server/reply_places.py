"""Where a reply stands in its conversation, and whether it is shown there."""

from __future__ import annotations

from chat_server.runs import Lane, Run
from memory.branch_end import branch_end
from memory.dual_memory import DualMemory
from memory.messages import Message, MessageId, reply_id, stands_beside


class ReplyPlaces:
    """Finds the places of replies; the lane's lock is held by the caller.

    The first reply to a question follows what was said last on its branch (decision 0006). One that
    was asked for anew stands beside that, whatever was said since (decision 0015). Which of both a
    reply is follows from its id, so that one that is recovered from the journal finds its place.

    Raises (all methods):
        StoreError: the store cannot be read, or written to.
    """

    def __init__(self, memory: DualMemory) -> None:
        self._memory = memory

    async def parent(self, reply: Message, run: Run | None, lane: Lane) -> Message | None:
        """What *reply* follows, from what its *run* knows or the store says; ``None``: its question
        is not stored.
        """
        if stands_beside(reply):
            return await self._beside(reply)
        if run is not None and run in lane.runs:
            if run.tail_in_doubt:
                await self._find_tail(run)
            return run.tail
        if reply.reply_to is None:
            return None
        return await branch_end(
            self._memory.long_term, reply.user, reply.conversation, reply.reply_to
        )

    async def will_be_shown(self, reply: Message, run: Run | None) -> bool:
        """Whether *reply*, which is about to be stored, becomes what is shown although it was asked
        for anew: unless it is empty, or something was said since that waits to be answered
        elsewhere. Then what is shown is chosen, for it may be older than *reply*.
        """
        if not stands_beside(reply):
            return False
        memory = self._memory
        if run is not None and reply.text and not run.overtaken:
            return True
        found = await memory.long_term.latest(reply.user, reply.conversation, limit=1)
        if not found:
            return True
        [shown] = found
        if run is None and (shown.role == "assistant" or shown.id == reply.parent):
            return True
        known = await memory.conversations.find(reply.user, reply.conversation)
        if known is not None and known.head != shown.id:
            await memory.conversations.branch(shown)
        return False

    async def take(self, reply: Message, lane: Lane, *, shown: bool) -> None:
        """Note that *reply* was stored in its place, and have it *shown*."""
        if not stands_beside(reply):
            lane.follow(reply)
        elif shown:
            await self._memory.conversations.branch(reply)
            lane.head = reply

    async def _beside(self, reply: Message) -> Message | None:
        """What the first reply to the question follows; where that is not stored, the question."""
        question = reply.reply_to
        if question is None:
            return None
        first = reply_id(question, 0)
        found = await self._messages(reply, first, question)
        if question not in found or found[question].conversation != reply.conversation:
            return None
        parent = found[first].parent if first in found else None
        if parent is None or parent == question:
            return found[question]
        return (await self._messages(reply, parent)).get(parent)

    async def _messages(self, reply: Message, *ids: MessageId) -> dict[MessageId, Message]:
        found = await self._memory.long_term.by_ids(reply.user, ids)
        return {message.id: message for message in found}

    async def _find_tail(self, run: Run) -> None:
        """Read the end of *run*'s branch: a reply beside what is stored there would be hidden."""
        question = run.question
        end = await branch_end(self._memory.long_term, run.user, question.conversation, run.tail.id)
        run.tail = end or run.tail
