"""One reply as a client has it so far: pieces by their offsets in, the text out; and the command
that asked for it. No I/O.
"""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from chat_server.client_events import RunDelta, RunDone, RunStarted
from chat_server.client_values import DELETED, Memory, Message, Place

RUNNING = "running"
LOST = "lost"

Frame = dict[str, object]


def digest(text: str) -> str:
    """The SHA-256 of *text* in UTF-8, as ``run.done`` carries it."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class Asked:
    """A command of this client: ``frame`` is repeated until it is answered."""

    def __init__(self, frame: Frame, *, posted: bool = False) -> None:
        self.id = str(frame["id"])
        self.frame = frame
        self.posted = posted
        """It may have reached the server before."""
        self.run: str | None = None
        """Its reply, once it was accepted."""
        self.repeats = 0

    def outgoing(self) -> Frame:
        """The frame as it goes out now."""
        again = {"retry": True} if self.posted and self.frame["type"] == "send" else {}
        self.posted = True
        return self.frame | again


class RunState:
    """What is known of the reply *id_*. Its text never has a hole: it grows at its end, begins
    again when the reply is made anew, and is what ``run.done`` says in the end.
    """

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.text = ""
        """As it would be shown; offsets count its code points."""
        self.status = RUNNING
        """``running``, or that of ``run.done``; ``lost``: the server does not know it; ``deleted``:
        it was erased.
        """
        self.conversation: str | None = None
        self.model = ""
        self.memories: tuple[Memory, ...] = ()
        self.done: RunDone | None = None
        self.corrected = False
        """What had been shown is not the beginning of the text that holds."""
        self._void = ""
        self._began: Place | None = None

    @property
    def over(self) -> bool:
        """Whether its end was told."""
        return self.done is not None

    def begin(self, event: RunStarted, place: Place | None) -> None:
        """It is being written; anew, if it began in another *place* before, or was lost."""
        if self.over or self.status == DELETED:
            return
        if self.status == LOST or (self._began is not None and self._began != place):
            self.restart()
        self.status = RUNNING
        self._began = place
        self.conversation, self.model = event.conversation, event.model

    def restart(self) -> None:
        """It is made anew: what was shown is void unless it reads the same again."""
        if not (self.text.startswith(self._void) or self._void.startswith(self.text)):
            self.corrected = True
        if len(self.text) > len(self._void):
            self._void = self.text
        self.text = ""

    def add(self, delta: RunDelta) -> bool:
        """Apply what is new of *delta*; false if a piece before it is missing."""
        if self.over or self.status == DELETED:
            return True
        if self.status == LOST:  # whatever it says now, it was made anew
            self.restart()
        self.status = RUNNING
        have = len(self.text)
        if delta.offset > have:
            return False
        self.text += delta.text[have - delta.offset :]
        return True

    def finish(self, done: RunDone) -> bool:
        """It is over and *done* holds; false if its text does not fit its own digest."""
        if self.status == DELETED:
            self.done = self.done or _without_words(done, replace(done.message, text=""))
            return True
        text = done.message.text
        self.corrected = self.corrected or not (
            text.startswith(self.text) and text.startswith(self._void)
        )
        self.text, self.status, self.conversation = text, done.status, done.conversation
        # Told again, beside the order, it says less: no usage, no timings.
        if self.done is None or done.seq or text != self.done.message.text:
            self.done = done
        return len(text) == done.chars and digest(text) == done.sha256

    def erase(self, left: Message) -> None:
        """It is deleted, and *left* is what is left of it: its words are nowhere in here any more,
        and do not come back.
        """
        self.text = self._void = ""
        self.memories = ()
        self.status = DELETED
        if self.done is not None:
            self.done = _without_words(self.done, left)

    def forget_memory(self, message: str) -> None:
        """The words of *message*, which is deleted, are not among what was remembered for it."""
        self.memories = tuple(memory for memory in self.memories if memory.id != message)


def _without_words(done: RunDone, left: Message) -> RunDone:
    return replace(done, status=DELETED, message=left, chars=0, sha256=digest(""))
