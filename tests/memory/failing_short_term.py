"""Short-term memory in this process that fails, or hangs, when it is told to."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from memory.errors import ShortTermUnavailable
from memory.in_process_short_term import InProcessShortTermMemory
from memory.messages import ConversationId, Message, UserId
from memory.short_term import Admission, AppendOutcome, ShortTermPolicy, ShortTermUsage


class FailingShortTerm(InProcessShortTermMemory):
    """``away``: every call fails; ``gate``: calls wait for it first; ``asked`` names all calls.

    With ``loses_answers`` a call is carried out and fails nevertheless, as one whose answer came
    too late.
    """

    def __init__(self, policy: ShortTermPolicy) -> None:
        super().__init__(policy)
        self.away = False
        self.loses_answers = False
        self.gate: anyio.Event | None = None
        self.asked: list[str] = []

    async def _meet(self, operation: str) -> None:
        self.asked.append(operation)
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise ShortTermUnavailable(f"{operation}: away")

    def _answer(self) -> None:
        if self.loses_answers:
            raise ShortTermUnavailable("the answer came too late")

    async def admit(self, user: UserId, conversation: ConversationId | None) -> Admission:
        await self._meet("admit")
        return await super().admit(user, conversation)

    async def lease_global(self, units: int) -> tuple[int, int]:
        await self._meet("lease_global")
        return await super().lease_global(units)

    async def append(self, message: Message, *, active: bool) -> AppendOutcome:
        await self._meet("append")
        outcome = await super().append(message, active=active)
        self._answer()
        return outcome

    async def replace(
        self,
        user: UserId,
        conversation: ConversationId,
        messages: Sequence[Message],
        *,
        active: bool,
    ) -> None:
        await self._meet("replace")
        await super().replace(user, conversation, messages, active=active)
        self._answer()

    async def drop(self, user: UserId, conversation: ConversationId) -> None:
        await self._meet("drop")
        await super().drop(user, conversation)
        self._answer()

    async def forget_user(self, user: UserId) -> None:
        await self._meet("forget_user")
        await super().forget_user(user)

    async def ping(self) -> None:
        await self._meet("ping")

    async def usage(self) -> ShortTermUsage:
        await self._meet("usage")
        return await super().usage()
