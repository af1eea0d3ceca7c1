"""A reply as its asker sees it: accepted, growing, over; and what was asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, Protocol

import anyio
import msgspec

from chat_server.client_errors import ClientError, NoAnswer
from chat_server.client_events import Accepted, RunDone
from chat_server.client_runs import Asked, RunState
from chat_server.client_values import ErrorFacts, Memory, Usage

ACCEPT_WITHIN_S: Final = 30.0
"""How long a message may take to be stored, with reconnecting and repeating."""
SILENT_AT_MOST_S: Final = 120.0
"""How long a reply may show no sign of life; four others may be before it."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a reply ended; ``text`` is what the server has stored.

    ``status``: ``completed``, ``stopped``, ``interrupted`` or ``failed`` (``error`` says why).
    ``model`` is ``offline`` where no language model wrote it. ``corrected``: the pieces that were
    shown are not the beginning of ``text``; what they said is void. Not ``stored`` but ``kept``: it
    is on the server's disk, and is stored as soon as that is possible. After a reconnect
    ``memories``, ``usage`` and ``timings_ms`` can be empty.
    """

    text: str
    status: str
    model: str
    message: str
    conversation: str
    memories: tuple[Memory, ...] = ()
    timings_ms: dict[str, float] = {}
    usage: Usage = Usage()
    stored: bool = True
    kept: bool = False
    corrected: bool = False
    error: ErrorFacts | None = None


class Asker(Protocol):
    """What a reply may ask of its client."""

    async def stop(self, run: str) -> None:
        """End the reply *run*."""

    def regenerate(self, message: str) -> Reply:
        """Have another reply made beside *message*."""

    def edit(self, message: str, text: str) -> Reply:
        """Say *text* in the place of *message*."""


class Reply:
    """The reply to one message. Iterate over it for the text as it is written::

        reply = client.send("Hello!")
        async for piece in reply:
            print(piece, end="")

    Nothing needs to be read: a reply that nobody follows is kept here, and ends all the same.
    """

    def __init__(self, id_: str, asker: Asker) -> None:
        self.id = id_
        """The message's own id: sending it again with the same text is safe for ever."""
        self._asker = asker
        self._run: RunState | None = None
        self._accepted: Accepted | None = None
        self._written_down = False
        self._failure: ClientError | None = None
        self._changed = anyio.Event()

    @property
    def text(self) -> str:
        """What it says so far."""
        return self._run.text if self._run else ""

    @property
    def model(self) -> str:
        """Who writes it; ``offline`` where no language model does."""
        return self._run.model if self._run else ""

    @property
    def memories(self) -> tuple[Memory, ...]:
        """What is remembered for it; known before its first piece."""
        return self._run.memories if self._run else ()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._failure is not None or (self._run is not None and self._run.over)

    @property
    def acceptance(self) -> Accepted | None:
        """What the server said when it stored the message, if it has."""
        return self._accepted

    async def written_down(self) -> None:
        """Wait until the message is in the client's outbox, from where it is sent whatever
        happens to this process; without an outbox, until it is accepted.

        Raises:
            OutboxFailed: the outbox does not take it.
            ServerError, NoAnswer: as :meth:`accepted`.
        """
        while not self._written_down and self._accepted is None:
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()

    async def accepted(self, within_s: float = ACCEPT_WITHIN_S) -> Accepted:
        """Wait until the message is stored for good.

        Raises:
            ServerError: it was refused; ``retryable`` says whether to repeat it.
            NoAnswer: nothing was heard within *within_s*; it may have been stored.
        """
        with anyio.move_on_after(within_s):
            while self._accepted is None:
                if self._failure is not None:
                    raise self._failure
                await self._changed.wait()
        if self._accepted is None:
            raise NoAnswer(f"the message was not accepted within {within_s:.0f} s")
        return self._accepted

    async def __aiter__(self) -> AsyncGenerator[str]:
        """The text in pieces, from its beginning, each once; ends when the reply does.

        Pieces are never taken back: if the server made the reply anew and it reads differently,
        the iteration ends early, and the result says ``corrected``.

        Raises:
            ServerError, NoAnswer: as :meth:`accepted` and :meth:`result`.
        """
        await self.accepted()
        given = ""
        while True:
            text = self.text
            if len(text) > len(given) and text.startswith(given):
                piece, given = text[len(given) :], text
                yield piece
            elif self._failure is not None:
                raise self._failure
            elif self.over:
                return
            else:
                await self._change()

    async def result(self) -> Result:
        """Wait for the end.

        A reply that the model failed to write ends too: see ``status`` and ``error``.

        Raises:
            ServerError: the message was refused.
            NoAnswer: no sign of life for ``SILENT_AT_MOST_S``.
        """
        await self.accepted()
        while True:
            if self._run is not None and self._run.done is not None:
                return _result(self._run, self._run.done)
            if self._failure is not None:
                raise self._failure
            await self._change()

    async def stop(self) -> None:
        """End the reply; what it said is kept, and :meth:`result` says ``stopped``."""
        await self._asker.stop((await self.accepted()).run)

    async def regenerate(self) -> Reply:
        """Have another reply made beside this one."""
        return self._asker.regenerate((await self.accepted()).run)

    async def edit(self, text: str) -> Reply:
        """Say *text* in the place of the message that this replies to: a branch begins there."""
        return self._asker.edit((await self.accepted()).message, text)

    async def _change(self) -> None:
        with anyio.move_on_after(SILENT_AT_MOST_S) as waiting:
            await self._changed.wait()
        if waiting.cancelled_caught:
            raise NoAnswer(f"nothing was heard of the reply for {SILENT_AT_MOST_S:.0f} s")

    # From here on: what the client tells the reply.

    def write_down(self) -> None:
        """The message is in the outbox."""
        self._written_down = True
        self.changed()

    def accept(self, accepted: Accepted, run: RunState) -> None:
        """The message is stored; *run* is what is known of its reply, from now on."""
        self._accepted, self._run = accepted, run
        self.changed()

    def fail(self, failure: ClientError) -> None:
        """It will not come."""
        if not self.over:
            self._failure = failure
            self.changed()

    def changed(self) -> None:
        """Something is known of it that was not."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def _result(run: RunState, done: RunDone) -> Result:
    """How *run* ended."""
    return Result(
        text=run.text,
        status=run.status,
        model=done.model,
        message=done.message.id,
        conversation=done.conversation,
        memories=run.memories,
        timings_ms=done.timings_ms,
        usage=done.usage,
        stored=done.stored,
        kept=done.kept,
        corrected=run.corrected,
        error=done.error,
    )


class Command:
    """Something asked for; ``reply`` is there where a reply follows."""

    def __init__(self, asked: Asked, reply: Reply | None = None) -> None:
        self.asked = asked
        self.reply = reply
        self.order = 0
        self.failure: ClientError | None = None
        self.answered = anyio.Event()

    def fail(self, failure: ClientError) -> None:
        """It was refused, or will not be answered."""
        self.failure = failure
        self.answered.set()
        if self.reply is not None:
            self.reply.fail(failure)
