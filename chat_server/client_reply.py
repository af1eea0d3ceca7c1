"""A reply as its asker sees it: accepted, growing, over."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

import anyio
import msgspec
import structlog

from chat_server.client_errors import ClientError, NoAnswer
from chat_server.client_events import (
    Accepted,
    ErrorFacts,
    Memory,
    Message,
    RunDelta,
    RunDone,
    Usage,
)

log = structlog.get_logger(__name__)

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


class Reply:
    """The reply to one message. Iterate over it for the text as it is written::

        reply = client.send("Hello!")
        async for piece in reply:
            print(piece, end="")

    Nothing needs to be read: a reply that nobody follows is kept here, and ends all the same.
    """

    def __init__(
        self, id_: str, sent: dict[str, object], stop: Callable[[Reply], Awaitable[None]]
    ) -> None:
        self.id = id_
        """The message's own id: sending it again with the same text is safe for ever."""
        self.memories: tuple[Memory, ...] = ()
        """What is remembered for this reply; known before its first piece."""
        self.text = ""
        """What it says so far."""
        self.model = ""
        self.sent = sent
        """The frame that asked for it."""
        self.behind = False
        """Something of it was missed: it must be read over HTTP."""
        self.repeats = 0
        """How often the message had to be repeated because its reply could not be found."""
        self._stop = stop
        self._accepted: Accepted | None = None
        self._result: Result | None = None
        self._failure: ClientError | None = None
        self._reaches = 0
        self._void = ""
        self._changed = anyio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._result is not None or self._failure is not None

    @property
    def acceptance(self) -> Accepted | None:
        """What the server said when it stored the message, if it has."""
        return self._accepted

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
        while self._result is None:
            if self._failure is not None:
                raise self._failure
            await self._change()
        return self._result

    async def stop(self) -> None:
        """End the reply; what it said is kept, and :meth:`result` says ``stopped``."""
        await self._stop(self)

    async def _change(self) -> None:
        with anyio.move_on_after(SILENT_AT_MOST_S) as waiting:
            await self._changed.wait()
        if waiting.cancelled_caught:
            raise NoAnswer(f"nothing was heard of the reply for {SILENT_AT_MOST_S:.0f} s")

    # From here on: what the client tells the reply.

    def accept(self, accepted: Accepted) -> None:
        """The message is stored."""
        self._accepted = accepted
        self._notify()

    def begin(self, model: str) -> None:
        """It is being written; for the second time, if the server lost the first."""
        if len(self.text) > len(self._void):
            self._void = self.text
        self.text, self._reaches, self.model = "", 0, model
        self._notify()

    def remember(self, memories: tuple[Memory, ...]) -> None:
        """This is remembered for it."""
        self.memories = memories
        self._notify()

    def add(self, delta: RunDelta) -> None:
        """Apply *delta* where it fits; a gap leaves the reply ``behind``."""
        have = len(self.text)
        self._reaches = max(self._reaches, delta.offset + len(delta.text))
        if delta.offset <= have:
            self.text += delta.text[have - delta.offset :]
        self.behind = self.behind or self._reaches > len(self.text)
        self._notify()

    def catch_up(self, text: str) -> None:
        """*text* is what it said when the server was asked."""
        if len(text) > len(self.text):
            self.text = text
        self.behind = self._reaches > len(self.text)
        self._notify()

    def finish(self, done: RunDone) -> None:
        """It is over; *done* is what holds, and its digest must be that of its text."""
        text = done.message.text
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        if len(text) != done.chars or digest != done.sha256:
            log.warning("reply.digest_differed", run=done.run, chars=done.chars, has=len(text))
        self._end(
            Result(
                text=text,
                status=done.status,
                model=done.model,
                message=done.message.id,
                conversation=done.conversation,
                memories=self.memories,
                timings_ms=done.timings_ms,
                usage=done.usage,
                stored=done.stored,
                kept=done.kept,
                corrected=self._differs(text),
                error=done.error,
            )
        )

    def found(self, message: Message, conversation: str) -> None:
        """It is over since long: *message* was read over HTTP."""
        self._end(
            Result(
                text=message.text,
                status=message.status,
                model=message.model or "",
                message=message.id,
                conversation=conversation,
                memories=self.memories,
                stored=message.stored,
                kept=not message.stored,
                corrected=self._differs(message.text),
            )
        )

    def fail(self, failure: ClientError) -> None:
        """It will not come."""
        if not self.over:
            self._failure = failure
            self._notify()

    def _differs(self, text: str) -> bool:
        """Whether something was shown that is not the beginning of *text*."""
        return not (text.startswith(self.text) and text.startswith(self._void))

    def _end(self, result: Result) -> None:
        if result.corrected:
            log.warning("reply.text_differed", had=len(self.text), chars=len(result.text))
        self._result = result
        self.text, self.behind = result.text, False
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
