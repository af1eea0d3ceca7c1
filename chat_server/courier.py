"""Letters to and from the other processes of the server, counted, so that a lost one is noticed."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from chat_server.errors import ChatError, unforeseen
from chat_server.letters import (
    Answered,
    AnyWriting,
    Asked,
    BegunAnew,
    Counted,
    Here,
    Live,
    LiveDelta,
    Rearranged,
    read,
    written,
)
from memory.errors import ShortTermUnavailable
from memory.live.broker import Broker, Event, Letter, NodeId

log = structlog.get_logger(__name__)

MOST_WAITING: Final = 20_000
"""Letters that may wait to be posted; beyond them the oldest are dropped, and missed."""
POST_AT_ONCE: Final = 500
MOST_ASKED: Final = 1_000
"""Commands of other nodes that are carried out at once; beyond them the sender is told ``busy``."""

OfUser = Here | BegunAnew | Live | LiveDelta
"""Letters about a user's events."""
ToAll = Here | BegunAnew | Rearranged
"""Letters that every other process gets."""
Reply = Callable[[bytes], None]
"""Takes one event of an answer, as JSON."""


class _Question:
    def __init__(self, answer: Reply) -> None:
        self.answer = answer
        self.answered = False
        self.done = anyio.Event()
        self.error: ChatError | None = None


class Courier:
    """This process's letters. Set the hooks, then run :meth:`run`.

    *tasks* owns what is carried out for others.
    """

    def __init__(self, broker: Broker, tasks: TaskGroup) -> None:
        self._broker = broker
        self._tasks = tasks
        self._waiting: deque[tuple[NodeId | None, bytes]] = deque()
        self._woken = anyio.Event()
        self._posting = anyio.Lock()
        self._sent: dict[NodeId, int] = {}
        self._to_all = 0
        self._got: dict[NodeId, tuple[int, int]] = {}
        self._told: dict[NodeId, tuple[int, int]] = {}
        self._unsure = False
        self._numbers = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self.on_event: Callable[[Event], None] = lambda _event: None
        self.on_live: Callable[[NodeId, OfUser], None] = lambda _node, _live: None
        self.on_rearranged: Callable[[Rearranged], None] = lambda _change: None
        self.on_asked: Callable[[Asked, Reply], Awaitable[None]] | None = None
        self.on_missed: Callable[[], None] = lambda: None
        """Something may have been missed: whatever is known through letters is to be looked up."""
        self.on_count_wrong: Callable[[], None] = lambda: None
        """Something was missed: for whoever counts that."""

    def post(self, node: NodeId | None, body: AnyWriting) -> None:
        """Send *body* to *node*, or to all others; never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._unsure = True
        self._waiting.append((node, written(body)))
        self._woken.set()

    def count_events(self, nodes: tuple[NodeId, ...]) -> None:
        """An event of this process was sent to *nodes* by the broker."""
        for node in nodes:
            self._sent[node] = self._sent.get(node, 0) + 1

    def lost_count(self) -> None:
        """What became of an event is not known."""
        self._unsure = True

    async def ask(self, node: NodeId, asked: Asked, answer: Reply, *, within_s: float) -> None:
        """Have *node* carry out a command; its events are given to *answer*.

        Raises:
            ChatError: what *node* says.
            TimeoutError: it says nothing in time, or what it says is lost; it may have been carried
                out.
        """
        question = self._questions[asked.number] = _Question(answer)
        try:
            self.post(node, asked)
            with anyio.fail_after(within_s):
                await question.done.wait()
        finally:
            del self._questions[asked.number]
        if question.error is not None:
            raise question.error
        if not question.answered:  # each command has an answer: it was lost on its way
            raise TimeoutError

    def next_number(self) -> int:
        """A number for a question."""
        return next(self._numbers)

    def announce(self) -> None:
        """Tell the others how much was sent to them; with each beat."""
        counted = Counted(sent=dict(self._sent), to_all=self._to_all, unsure=self._unsure)
        self._unsure = False
        self.post(None, counted)

    def forget(self, nodes: frozenset[NodeId]) -> None:
        """*nodes* are gone."""
        for node in nodes:
            self._sent.pop(node, None)
            self._got.pop(node, None)
            self._told.pop(node, None)

    async def run_sender(self) -> None:
        """Post what waits, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            await self.flush()

    async def flush(self) -> None:
        """Return once what waits is posted, or known to be lost: what is published next arrives
        after it.
        """
        if not self._waiting and not self._posting.locked():
            return
        async with self._posting:
            while self._waiting:
                count = min(POST_AT_ONCE, len(self._waiting))
                await self._post([self._waiting.popleft() for _ in range(count)])

    async def _post(self, letters: Sequence[tuple[NodeId | None, bytes]]) -> None:
        try:
            await self._broker.post(letters)
        except ShortTermUnavailable:
            self._unsure = True
            return
        for node, _ in letters:
            if node is None:
                self._to_all += 1
            else:
                self._sent[node] = self._sent.get(node, 0) + 1

    async def run_receiver(self) -> None:
        """Take in what comes, until cancelled."""
        async for came in self._broker.incoming():
            if came is None:
                self._got.clear()
                self.on_missed()
            elif came.sender != self._broker.node:
                self._take(came)

    def _take(self, came: Event | Letter) -> None:
        to_me, to_all = self._got.get(came.sender, (-1, -1))
        if isinstance(came, Event):
            self._count(came.sender, to_me + 1, to_all)
            self.on_event(came)
            return
        body = read(came.body)
        if isinstance(body, Counted):
            self._compare(came.sender, body)
            return
        if isinstance(body, ToAll):
            self._count(came.sender, to_me, to_all + 1)
        else:
            self._count(came.sender, to_me + 1, to_all)
        self._open(came.sender, body)

    def _count(self, sender: NodeId, to_me: int, to_all: int) -> None:
        # Until its first count is known, a sender's letters are not counted.
        if sender in self._got:
            self._got[sender] = (to_me, to_all)

    def _compare(self, sender: NodeId, counted: Counted) -> None:
        """A count that is behind the sender's means that something was lost on the way.

        A count that is ahead is one that the sender had not finished when it wrote; unless it
        counts anew, for it took this node for gone.
        """
        to_me, to_all = self._got.get(sender, (None, None))
        told = (counted.sent.get(self._broker.node, 0), counted.to_all)
        is_anew = told[0] < self._told.get(sender, told)[0]
        self._told[sender] = told
        if to_me is None or to_all is None:
            self._got[sender] = (told[0], told[1] + 1)
            return
        if to_me < told[0] or to_all < told[1] or counted.unsure or is_anew:
            log.warning("letters.missed", sender=sender)
            self.on_count_wrong()
            self.on_missed()
            self._got[sender] = (told[0], told[1] + 1)
        else:
            self._got[sender] = (to_me, to_all + 1)  # this one

    def _open(self, sender: NodeId, body: AnyWriting | None) -> None:
        match body:
            case Here() | BegunAnew() | Live() | LiveDelta():
                self.on_live(sender, body)
            case Rearranged():
                self.on_rearranged(body)
            case Asked():
                self._tasks.start_soon(self._carry_out, sender, body)
            case Answered():
                self._answered(body)
            case _:
                log.warning("letter.not_understood", sender=sender)

    async def _carry_out(self, sender: NodeId, asked: Asked) -> None:
        """Do what another node asks for, and tell it how that went. The boundary of one such
        command: whatever goes wrong ends it only.
        """
        number = asked.number

        def reply(payload: bytes) -> None:
            self.post(sender, Answered(number=number, payload=payload))

        last = Answered(number=number, last=True)
        try:
            if self.on_asked is None or self._asked >= MOST_ASKED:
                raise ChatError("busy", "too much is under way; try again", retry_after_ms=1000)
            self._asked += 1
            try:
                await self.on_asked(asked, reply)
            finally:
                self._asked -= 1
        except ChatError as error:
            last = _refused(number, error)
        except Exception:
            log.exception("command.failed", sender=sender)
            last = _refused(number, unforeseen())
        self.post(sender, last)

    def _answered(self, answered: Answered) -> None:
        question = self._questions.get(answered.number)
        if question is None:
            return
        if not answered.last:
            question.answered = True
            question.answer(answered.payload)
            return
        if answered.code is not None:
            question.error = ChatError(
                answered.code,
                answered.message,
                field=answered.field,
                retry_after_ms=answered.retry_after_ms,
            )
        question.done.set()


def _refused(number: int, error: ChatError) -> Answered:
    return Answered(
        number=number,
        last=True,
        code=error.code,
        message=error.message,
        field=error.field,
        retry_after_ms=error.retry_after_ms,
    )
