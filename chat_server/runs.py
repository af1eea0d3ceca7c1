"""The replies that are being made, and the order within a conversation."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager
from typing import Final, Literal

import anyio
from anyio import CancelScope

from chat_server.errors import ChatError
from chat_server.events import RunDone, RunMemories
from memory.errors import IdConflict
from memory.messages import ConversationId, Message, MessageId, RunId, UserId, reply_id

MAX_WAITING: Final = 4
"""Runs that may wait in one conversation for the live one."""

EndReason = Literal["stopped", "interrupted", "abandoned"]


class Run:
    """The making of one reply. Its id is the reply's, so a repeated send names the same run."""

    def __init__(self, question: Message, lane: Lane, *, attempt: int | str = 0) -> None:
        self.id = self.id_of(question, attempt)
        self.anew = attempt != 0
        """The question has a reply, or had one in the making: this one will stand beside it."""
        self.overtaken = False
        """Something was said, or another branch chosen, since a reply was asked for anew: that
        stays what is shown."""
        self.question = question
        self.lane = lane
        self.scope = CancelScope()
        self.end_reason: EndReason | None = None
        self.turn_came = anyio.Event()
        """No other run of the conversation is before this one."""
        self.question_stored = anyio.Event()
        """The question is committed: from here on things may be shown."""
        self.decided = anyio.Event()
        """The question is committed, or the run was abandoned."""
        self.tail = question
        """The message that the reply will follow: the question, or what was said since."""
        self.tail_in_doubt = False
        """More may be stored behind ``tail``; see :meth:`Lane.doubt`."""
        self.memories: RunMemories | None = None
        """What was remembered for the reply, once that is known."""
        self.done: RunDone | None = None
        """How it ended, once that was told."""
        self.on_shown: Callable[[Run], None] = lambda _run: None
        self._pieces: list[str] = []
        self.chars = 0

    @staticmethod
    def id_of(question: Message, attempt: int | str = 0) -> RunId:
        """The id of the *attempt*-th run that answers *question*, or of the one that the command
        *attempt* asks for.
        """
        return RunId(reply_id(question.id, attempt))

    @property
    def user(self) -> UserId:
        return self.question.user

    @property
    def reply(self) -> MessageId:
        """The id under which the reply is stored."""
        return MessageId(self.id)

    @property
    def text(self) -> str:
        """What was said so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def add(self, piece: str) -> None:
        """Append *piece* to the reply."""
        self._pieces.append(piece)
        self.chars += len(piece)

    def show(self) -> None:
        """The question is committed."""
        self.question_stored.set()
        self.decided.set()
        self.on_shown(self)

    def end(self, reason: EndReason) -> None:
        """Cancel the run; the first reason holds."""
        if self.end_reason is None:
            self.end_reason = reason
            self.scope.cancel()


def digest(text: str) -> str:
    """SHA-256 over the UTF-8 text, in hex: how a client proves that its copy is exact."""
    return hashlib.sha256(text.encode()).hexdigest()


class Lane:
    """One conversation while something goes on in it: who writes, where its end is, what runs.

    ``lock`` is held while a message is placed and committed, so that each message of a
    conversation finds the one before it. ``head`` is its last message as long as the lane is
    used; it is newer than what short-term memory may say.
    """

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.head: Message | None = None
        self.runs: deque[Run] = deque()
        self.holders = 0
        """Who holds the lock or waits for it."""

    def doubt(self) -> None:
        """Note that something may have been stored at the end although nobody was told: whoever
        comes next reads the store, and so do the replies that are being made.
        """
        self.head = None
        for run in self.runs:
            run.tail_in_doubt = True

    def follow(self, message: Message) -> None:
        """Note that *message* was committed at the end of the conversation, or of a branch."""
        if message.role == "user":
            self.choose(message)
        elif self.head is not None and message.parent == self.head.id:
            self.head = message
        for run in self.runs:
            if run.tail.id == message.parent:
                run.tail = message

    def branch(self, message: Message, way: Set[MessageId]) -> None:
        """Note that a branch begins with *message*, behind those on its *way*, and is shown:
        replies that are owed to something there follow it.
        """
        self.choose(message)
        for run in self.runs:
            if run.question.id in way and not run.anew:
                run.tail = message

    def rearranged(self) -> None:
        """Note that another process chose what is shown: whoever comes next reads the store."""
        self.doubt()
        for run in self.runs:
            run.overtaken = True

    def choose(self, head: Message) -> None:
        """Note that *head* is the last message of what is shown, by the user's own choice."""
        self.head = head
        for run in self.runs:
            run.overtaken = True


class Runs:
    """All live and waiting runs of this process."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[UserId, ConversationId], Lane] = {}
        self._runs: dict[RunId, Run] = {}
        self._idle = anyio.Event()
        self._idle.set()
        self.on_shown: Callable[[Run], None] = lambda _run: None
        self.on_finished: Callable[[Run], None] = lambda _run: None

    @asynccontextmanager
    async def lane(self, user: UserId, conversation: ConversationId) -> AsyncIterator[Lane]:
        """The conversation's lane, with its lock held. Never held across a model call."""
        key = (user, conversation)
        lane = self._lanes.setdefault(key, Lane())
        lane.holders += 1
        try:
            async with lane.lock:
                yield lane
        finally:
            lane.holders -= 1
            self._tidy(key, lane)

    def begin(self, question: Message, lane: Lane, *, attempt: int | str = 0) -> Run:
        """Enter the *attempt*-th run that answers *question*; it waits its turn in the lane.

        Raises:
            ChatError: ``busy``, when ``MAX_WAITING`` wait already.
            IdConflict: a message of that id is being answered, in another conversation.
        """
        self.check_room(lane)
        run = Run(question, lane, attempt=attempt)
        if run.id in self._runs:
            raise IdConflict(question.id)
        run.on_shown = self.on_shown
        lane.runs.append(run)
        self._runs[run.id] = run
        if lane.runs[0] is run:
            run.turn_came.set()
        if self._idle.is_set():
            self._idle = anyio.Event()
        return run

    def check_room(self, lane: Lane) -> None:
        """Refuse a message whose run could not wait.

        Raises:
            ChatError: ``busy``.
        """
        if len(lane.runs) > MAX_WAITING:
            raise ChatError(
                "busy",
                "replies are still being made in this conversation; wait for one to end",
                retry_after_ms=1000,
            )

    def abandon(self, run: Run) -> None:
        """Call *run* off and take it out at once: its question was not stored, or is answered.

        The same question may begin another run while the tasks of this one still come to an end.
        """
        run.end("abandoned")
        run.decided.set()
        self.finish(run)

    def abandon_user(self, user: UserId) -> None:
        """Call off and take out all runs of *user*, who is being erased."""
        for run in [run for run in self._runs.values() if run.user == user]:
            self.abandon(run)

    def abandon_lane(self, lane: Lane) -> list[MessageId]:
        """The same for all runs of a conversation, which is being deleted; the replies' ids."""
        runs = list(lane.runs)
        for run in runs:
            self.abandon(run)
        return [run.reply for run in runs]

    def finish(self, run: Run) -> None:
        """Take *run* out, once; the next one of the conversation gets its turn."""
        if self._runs.get(run.id) is not run:
            return
        del self._runs[run.id]
        self.on_finished(run)
        lane = run.lane
        lane.runs.remove(run)
        if lane.runs:
            lane.runs[0].turn_came.set()
        self._tidy((run.user, run.question.conversation), lane)
        if not self._runs:
            self._idle.set()

    def find(self, user: UserId, run: str) -> Run | None:
        """*user*'s live or waiting run."""
        found = self._runs.get(RunId(run))
        return found if found is not None and found.user == user else None

    def of_conversation(self, user: UserId, conversation: ConversationId) -> list[Run]:
        """The live run of a conversation, and those that wait, in order."""
        lane = self._lanes.get((user, conversation))
        if lane is None:
            return []
        return [run for run in lane.runs if run.question_stored.is_set()]

    def known_lane(self, user: UserId, conversation: ConversationId) -> Lane | None:
        """The lane of a conversation in which something goes on."""
        return self._lanes.get((user, conversation))

    def is_in_use(self, user: UserId, conversation: ConversationId) -> bool:
        """Whether something goes on in a conversation."""
        return (user, conversation) in self._lanes

    def answering(self, question: MessageId) -> bool:
        """Whether a reply to *question* is being made, or waits its turn."""
        return RunId(reply_id(question, 0)) in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    async def wait_idle(self) -> None:
        """Return once no run is left."""
        while self._runs:
            await self._idle.wait()

    def interrupt_all(self) -> None:
        """End every run; each stores what it has said."""
        for run in list(self._runs.values()):
            run.end("interrupted")

    def _tidy(self, key: tuple[UserId, ConversationId], lane: Lane) -> None:
        if lane.holders == 0 and not lane.runs and self._lanes.get(key) is lane:
            del self._lanes[key]
