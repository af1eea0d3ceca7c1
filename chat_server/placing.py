"""Where a message goes: after which message, with which window before it."""

from __future__ import annotations

import time

from chat_server.authentication import Identity
from chat_server.errors import ChatError
from chat_server.protocol import Send
from chat_server.runs import Lane, Run
from memory.dual_memory import DualMemory
from memory.messages import ConversationId, Message, MessageId, UserId, message_id
from memory.short_term import Admission, Window


class Placed:
    """Where a message goes: after which message, with which window before it."""

    def __init__(self, window: Window, parent: Message | None, *, branched: bool) -> None:
        self.window = window
        self.parent = parent
        self.branched = branched


class Placing:
    """Finds the places of messages; the lane's lock is held by the caller."""

    def __init__(self, memory: DualMemory) -> None:
        self._memory = memory

    async def place(
        self,
        send: Send,
        user: UserId,
        conversation: ConversationId,
        lane: Lane,
        admission: Admission,
    ) -> Placed:
        """Find the window and the parent.

        Raises:
            ChatError: ``unknown_parent``.
        """
        if send.conversation is None and admission.window is None:
            window = Window(())  # the id was made just now: nothing can stand there
        else:
            window = await self._memory.window(
                user, conversation, admission.window, active=admission.active
            )
        if lane.head is not None and window.head != lane.head:
            window = await self._memory.rebuild_window(user, conversation, active=admission.active)
        head = lane.head or window.head
        if send.parent is None or (head is not None and send.parent == head.id):
            return Placed(window, head, branched=False)
        found = await self._memory.long_term.by_ids(user, [MessageId(send.parent)])
        if not found or found[0].conversation != conversation:
            raise ChatError(
                "unknown_parent", "no such message in this conversation", field="parent"
            )
        window = await self._memory.branch_window(user, conversation, found[0])
        return Placed(window, found[0], branched=True)

    async def place_again(self, run: Run, stored: Message, *, active: bool) -> None:
        """Let the reply to a question that was stored long ago follow what was said since.

        Otherwise it would begin a branch that nobody chose, and hide what follows it.
        """
        window = await self._memory.rebuild_window(stored.user, stored.conversation, active=active)
        run.question = stored
        run.tail = run.lane.head = window.head or stored


def question_of(
    send: Send, identity: Identity, conversation: ConversationId, placed: Placed
) -> Message:
    """The message that *send* becomes where it was *placed*."""
    parent = placed.parent
    return Message(
        id=message_id(identity.user, send.id),
        user=identity.user,
        conversation=conversation,
        role="user",
        text=send.text,
        timestamp=time.time(),
        parent=parent.id if parent else None,
        depth=parent.depth + 1 if parent else 0,
        client_id=send.id,
        author=send.author,
    )
