"""Where a message goes: after which message, with which window before it."""

from __future__ import annotations

import time
from collections.abc import Set as AbstractSet

from chat_server.authentication import Identity
from chat_server.errors import ChatError
from chat_server.runs import Lane, Run
from chat_server.saying import Saying, question_id
from memory.branch_end import branch_end
from memory.dual_memory import DualMemory
from memory.messages import ConversationId, Message, MessageId, UserId
from memory.short_term import Admission, Window


class Placed:
    """Where a message goes: after which message, with which window before it."""

    def __init__(self, window: Window, parent: Message | None, *, branched: bool) -> None:
        self.window = window
        self.parent = parent
        self.branched = branched

    @property
    def way(self) -> AbstractSet[MessageId]:
        """What stands on the way there, as far as the window reaches."""
        return {message.id for message in self.window.messages}


class Placing:
    """Finds the places of messages; the lane's lock is held by the caller."""

    def __init__(self, memory: DualMemory) -> None:
        self._memory = memory

    async def place(self, saying: Saying, user: UserId, lane: Lane, admission: Admission) -> Placed:
        """Find the window and the parent.

        Raises:
            ChatError: ``unknown_parent``; ``unknown_conversation``, where it was deleted.
        """
        if saying.instead is not None:
            return await self._in_place_of(saying.instead)
        conversation = saying.conversation
        if saying.opens and admission.window is None:
            window = Window(())  # the id was made just now: nothing can stand there
        else:
            window = await self._memory.window(
                user, conversation, admission.window, active=admission.active
            )
        shared = self._memory.conversations.shared  # another process may have chosen a branch
        if lane.head is not None and (shared or window.head != lane.head):
            window = await self._memory.rebuild_window(user, conversation, active=admission.active)
            known = lane.head  # none any more if another process changed something meanwhile
            if known is not None and window.head is not None and window.head.id != known.id:
                lane.choose(window.head)
        head = lane.head or window.head
        await self._check_not_deleted(user, conversation, head)
        if saying.parent is None or (head is not None and saying.parent == head.id):
            return Placed(window, head, branched=False)
        parent = await self._message(user, saying.parent)
        if parent is None or parent.conversation != conversation:
            raise ChatError(
                "unknown_parent", "no such message in this conversation", field="parent"
            )
        window = await self._memory.branch_window(user, conversation, parent)
        return Placed(window, parent, branched=True)

    async def place_again(self, run: Run, stored: Message, *, active: bool) -> None:
        """Let the reply to a question that was stored long ago follow what was said since on its
        branch.

        Otherwise it would begin a branch that nobody chose, and hide what follows it.
        """
        user, conversation = stored.user, stored.conversation
        window = await self._memory.rebuild_window(user, conversation, active=active)
        run.question = stored
        run.lane.head = window.head
        end = window.head
        if stored.id not in {message.id for message in window.messages}:
            end = await branch_end(self._memory.long_term, user, conversation, stored.id)
        run.tail = end or stored

    async def _in_place_of(self, message: Message) -> Placed:
        user, conversation = message.user, message.conversation
        if message.parent is None:
            return Placed(Window(()), None, branched=True)
        parent = await self._message(user, message.parent)
        if parent is None:
            raise ChatError("unknown_message", "nothing can follow there", field="message")
        window = await self._memory.branch_window(user, conversation, parent)
        return Placed(window, parent, branched=True)

    async def _check_not_deleted(
        self, user: UserId, conversation: ConversationId, head: Message | None
    ) -> None:
        """Of a deleted conversation places are left, and nothing more is said in it."""
        if head is None or head.status != "deleted":
            return
        if await self._memory.conversations.find(user, conversation) is None:
            raise ChatError(
                "unknown_conversation", "this conversation was deleted", field="conversation"
            )

    async def _message(self, user: UserId, message: MessageId) -> Message | None:
        found = await self._memory.long_term.by_ids(user, [message])
        return found[0] if found else None


def question_of(saying: Saying, identity: Identity, placed: Placed) -> Message:
    """The message that *saying* becomes where it was *placed*."""
    parent = placed.parent
    return Message(
        id=question_id(saying, identity.user),
        user=identity.user,
        conversation=saying.conversation,
        role="user",
        text=saying.text,
        timestamp=time.time(),
        parent=parent.id if parent else None,
        depth=parent.depth + 1 if parent else 0,
        client_id=saying.id,
        author=saying.author,
    )
