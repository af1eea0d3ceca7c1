"""One import: lines in, messages stored in batches; what became of each line is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import anyio
import msgspec

from chat_server.errors import ChatError, told
from chat_server.patience import insist, passing
from chat_server.transfer_lines import MAX_LINE_BYTES, BadLine, Line, NumberedLine, parse_line
from chat_server.transfer_places import Places
from memory.conversations import title_of
from memory.dual_memory import DualMemory
from memory.errors import StoreError
from memory.messages import (
    Appended,
    Conversation,
    ConversationId,
    Message,
    UserId,
)

BATCH_LINES: Final = 100
"""So many lines are looked up at once: what is stored already costs no more than that."""
STORED_AT_ONCE: Final = 20
"""One write of the store: a parent and its children fail together or not at all."""
SAVED_AT_ONCE: Final = 4


class Counts(msgspec.Struct):
    """What became of the lines so far."""

    read: int = 0
    stored: int = 0
    duplicates: int = 0
    errors: int = 0


class New(NamedTuple):
    """A line that is not stored yet, and the message it becomes."""

    number: int
    line: Line
    message: Message


class Import:
    """Stores the lines that it is given as *user*'s messages, each once.

    *tell* is called with the number of each line that cannot be stored, and the reason.
    """

    def __init__(
        self, memory: DualMemory, user: UserId, tell: Callable[[int, ChatError], None]
    ) -> None:
        self._memory = memory
        self._user = user
        self._tell_client = tell
        self._batch: list[tuple[int, Line]] = []
        self._places = Places(memory.long_term, user)
        self._last: Message | None = None
        self.counts = Counts()

    async def take(self, line: NumberedLine) -> None:
        """Take one line; stores a batch when one is full.

        Raises:
            StoreError: the store stayed away; what was stored stays.
        """
        self.counts.read += 1
        try:
            if line.raw is None:
                raise BadLine("bad_request", f"a line has at most {MAX_LINE_BYTES:,} bytes")
            self._batch.append((line.number, parse_line(line.raw)))
        except BadLine as wrong:
            self._tell(line.number, wrong)
        if len(self._batch) >= BATCH_LINES:
            await self.flush()

    async def flush(self) -> None:
        """Store what was taken; raises as :meth:`take`."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        lines = [line for _, line in batch]
        known = await insist(partial(self._places.known, lines))
        new: list[New] = []
        opened: dict[ConversationId, Conversation] = {}
        for number, line in batch:
            try:
                message = await self._places.place(line, known)
            except BadLine as wrong:
                self._tell(number, wrong)
                continue
            if message.id in known:
                self.counts.duplicates += 1
            else:
                known[message.id] = message
                new.append(New(number, line, message))
            self._places.remember(line, message)
            self._draft(line, message, opened)
        for start in range(0, len(new), STORED_AT_ONCE):
            await self._store(new[start : start + STORED_AT_ONCE])
        await self._list(list(opened.values()))
        await self._memory.drop_windows(self._user, opened)

    async def close(self) -> None:
        """Let recall see what was stored; to be called at the end, however it came."""
        if self._last is not None:
            await self._memory.read_again(self._last)

    def _tell(self, number: int, wrong: ChatError) -> None:
        self.counts.errors += 1
        self._tell_client(number, wrong)

    def _draft(
        self, line: Line, message: Message, opened: dict[ConversationId, Conversation]
    ) -> None:
        """Put down what *line* says of its conversation."""
        listed = opened.get(message.conversation) or Conversation(
            id=message.conversation,
            user=self._user,
            title=title_of(message.text) if line.title is None else line.title,
            created_at=message.timestamp,
            updated_at=message.timestamp,
        )
        opened[message.conversation] = msgspec.structs.replace(
            listed,
            created_at=min(listed.created_at, message.timestamp),
            updated_at=max(listed.updated_at, message.timestamp),
            head=message.id if self._places.is_head(line) else listed.head,
        )

    # Storing

    async def _store(self, new: Sequence[New]) -> None:
        outcomes = await insist(partial(self._record, [each.message for each in new]))
        for each, outcome in zip(new, outcomes, strict=True):
            if isinstance(outcome, Appended):
                self.counts.stored += 1
                self._last = outcome.message
            else:
                self._places.forget(each.line)
                self._tell(each.number, outcome)

    async def _record(self, messages: Sequence[Message]) -> list[Appended | ChatError]:
        """The outcome of each; a fault that passes is raised: all may be sent again."""
        outcomes: list[Appended | ChatError] = []
        for outcome in await self._memory.record_many(messages):
            if isinstance(outcome, StoreError) and passing(outcome):
                raise outcome
            outcomes.append(told(outcome) if isinstance(outcome, StoreError) else outcome)
        return outcomes

    async def _list(self, conversations: Sequence[Conversation]) -> None:
        """Make sure that *conversations* are listed, a few at a time."""
        limiter = anyio.CapacityLimiter(SAVED_AT_ONCE)
        failures: list[StoreError] = []

        async def take_in(conversation: Conversation) -> None:
            async with limiter:
                try:
                    await insist(partial(self._memory.conversations.take_in, conversation))
                except StoreError as fault:
                    failures.append(fault)

        async with anyio.create_task_group() as tasks:
            for conversation in conversations:
                tasks.start_soon(take_in, conversation)
        if failures:
            raise failures[0]
