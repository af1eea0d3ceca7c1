"""What one tab knows, by the letter of docs/protocol.md: frames in, state and wishes out; no I/O.

It owes nothing to the client library, whose faults it is to show as well.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Frame = dict[str, Any]

Wish = Literal[
    "attach",  # text of a reply is missing
    "resume",  # an event is missing: a new connection gets it
    "read",  # everything may have changed: read it over HTTP
]


TRACE: Final = 400
TRACED: Final = frozenset(
    {"type", "seq", "epoch", "resumed", "offset", "re", "code", "status", "stored", "messages"}
)
KEPT_AFTER_S: Final = 1.0
"""What of a reply was shown so long before its end must be kept, whatever was killed (promised are
0.25 s; more is granted to a busy machine)."""


def digest(text: str) -> str:
    """SHA-256 over the UTF-8 text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class ReplyCopy:
    """One reply as this tab has it; ``conversation`` is empty until somebody said it."""

    run: str
    conversation: str = ""
    question: str = ""
    text: str = ""
    done: bool = False
    status: str = ""
    mended: bool = False
    """The end brought text that had not come as deltas."""
    grew: list[tuple[float, int]] = field(default_factory=list)
    """When it was how long."""

    def extend(self, text: str, now: float) -> None:
        """Append *text*."""
        self.text += text
        self.grew.append((now, len(self.text)))

    def owed(self) -> int:
        """So many code points must be kept of it, whatever happens to the server."""
        last = self.grew[-1][0] if self.grew else 0.0
        return max((size for at, size in self.grew if at <= last - KEPT_AFTER_S), default=0)


@dataclass(frozen=True)
class SaidCopy:
    """One message of the user as this tab has it."""

    id: str
    conversation: str
    text: str
    client_id: str | None


@dataclass
class Counts:
    """How often what happened."""

    resumed: int = 0
    begun_anew: int = 0
    resets: int = 0
    gaps: int = 0
    holes: int = 0
    repeats: int = 0
    overlaps: int = 0


@dataclass
class Copy:
    """The state of one tab, and what it has to complain of."""

    epoch: str = ""
    seq: int = 0
    said: dict[str, SaidCopy] = field(default_factory=dict)
    replies: dict[str, ReplyCopy] = field(default_factory=dict)
    interrupted: set[str] = field(default_factory=set)
    """Questions whose reply will not come, as the history says."""
    gone: set[str] = field(default_factory=set)
    """Deleted conversations."""
    erased: set[str] = field(default_factory=set)
    """Deleted messages."""
    order: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    """What stood at which place: epoch and seq to type and subject."""
    told: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How often which event was applied: epoch, type and subject."""
    complaints: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    clock: Callable[[], float] = time.monotonic
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=TRACE))
    """What came, in short, for whoever looks for a fault."""

    def hello(self, token: str) -> Frame:
        """The first frame of the next connection."""
        frame: Frame = {"type": "hello", "v": 1, "token": token, "client": "chaos"}
        if self.epoch:
            frame["resume"] = {"epoch": self.epoch, "seq": self.seq}
            frame["runs"] = [
                {"run": reply.run, "offset": len(reply.text)} for reply in self.unfinished()
            ]
        return frame

    def welcome(self, frame: Frame) -> bool:
        """Begin a connection; whether everything must be read over HTTP."""
        self.note(frame)
        if frame["resumed"]:
            if frame["epoch"] != self.epoch or frame["seq"] < self.seq:
                self.complain("resumed", f"at {self.seq}, but the server is at {frame['seq']}")
            self.counts.resumed += 1
            return False
        self.epoch, self.seq = frame["epoch"], frame["seq"]
        self.counts.begun_anew += 1
        return True

    def unfinished(self) -> list[ReplyCopy]:
        """The replies whose end is not known."""
        return [reply for reply in self.replies.values() if not reply.done]

    def heard(self, frame: Frame) -> list[tuple[Wish, str]]:
        """Apply *frame*; what the tab must ask for now, and of which run."""
        self.note(frame)
        if frame["type"] == "reset":
            self.epoch, self.seq = frame["epoch"], frame["seq"]
            self.counts.resets += 1
            return [("read", "")]
        seq = frame.get("seq") if frame["type"] != "welcome" else None
        if seq is not None:
            if seq <= self.seq:
                self.counts.repeats += 1
                return []
            if seq > self.seq + 1:
                self.counts.gaps += 1
                return [("resume", "")]
            self.seq = seq
            subject = _subject(frame)
            self.order[self.epoch, seq] = (frame["type"], subject)
            self.told[self.epoch, frame["type"], subject] += 1
        return self._apply(frame)

    def _apply(self, frame: Frame) -> list[tuple[Wish, str]]:
        match frame["type"]:
            case "message.created":
                self._created(frame["conversation"], frame["message"])
            case "message.deleted":
                self._erase(frame["message"]["id"])
            case "run.started":
                self._reply(frame["run"], frame["conversation"]).question = frame["message"]
            case "run.delta":
                return self._delta(frame["run"], frame["offset"], frame["text"])
            case "run.done":
                self._done(frame)
            case "conversation.deleted":
                self.gone.add(frame["conversation"]["id"])
            case _:
                pass
        return []

    def _reply(self, run: str, conversation: str = "") -> ReplyCopy:
        reply = self.replies.setdefault(run, ReplyCopy(run))
        reply.conversation = reply.conversation or conversation
        return reply

    def _erase(self, message: str) -> None:
        self.erased.add(message)
        self.said.pop(message, None)
        self.replies.pop(message, None)

    def _created(self, conversation: str, message: Frame) -> None:
        if message["id"] in self.erased:
            self.complain("undeleted", f"message {message['id']} was told of once more")
            return
        if message["role"] == "assistant":
            self._ended(message, conversation)
            return
        known = self.said.get(message["id"])
        copy = SaidCopy(message["id"], conversation, message["text"], message.get("client_id"))
        if known is not None and known.text != copy.text:
            self.complain("changed", f"message {copy.id} has other words than before")
        self.said[copy.id] = copy

    def _delta(self, run: str, offset: int, text: str) -> list[tuple[Wish, str]]:
        reply = self._reply(run)
        have = len(reply.text)
        if reply.done:
            self._overlap(reply, offset, text)
            return []
        if offset > have:
            self.counts.holes += 1
            return [("attach", run)]
        if offset < have:
            self.counts.overlaps += 1
            self._overlap(reply, offset, text)
        reply.extend(text[have - offset :], self.clock())
        return []

    def _overlap(self, reply: ReplyCopy, offset: int, text: str) -> None:
        known = reply.text[offset : offset + len(text)]
        if not text.startswith(known):
            self.complain("contradicted", f"{reply.run} at {offset}: other text than before")

    def _done(self, frame: Frame) -> None:
        message = frame["message"]
        if message["id"] in self.erased:  # the answer to a question from before
            return
        if digest(message["text"]) != frame["sha256"] or len(message["text"]) != frame["chars"]:
            self.complain("wrong digest", f"{frame['run']}: not that of its own text")
        self._ended(message, frame["conversation"])

    def _ended(self, message: Frame, conversation: str) -> None:
        """The text that holds, as an event or the history tells it."""
        reply, text = self._reply(message["id"], conversation), message["text"]
        if reply.done and (reply.text, reply.status) != (text, message["status"]):
            self.complain("changed", f"the end of {reply.run} was told twice, differently")
        cut = message["status"] == "interrupted" and reply.text.startswith(text)
        if cut and len(text) < reply.owed():
            self.complain("cut", f"{reply.run}: {len(text)} of {reply.owed()} code points kept")
        if not cut and not text.startswith(reply.text):
            self.complain("contradicted", f"{reply.run}: its end is not what was shown of it")
        reply.mended = reply.mended or (not reply.done and reply.text != text)
        reply.text, reply.status, reply.done = text, message["status"], True
        self.interrupted.discard(message.get("reply_to") or "")

    def read(self, conversation: str, messages: Iterable[Frame], runs: Iterable[Frame]) -> None:
        """Take over what the history says of *conversation*; events may be newer than it is."""
        for message in messages:
            if message["status"] != "deleted" and message["id"] not in self.erased:
                self._created(conversation, message)
            if message.get("reply") == "interrupted":
                self._never_comes(message["id"])
        for run in runs:
            reply = self._reply(run["run"], conversation)
            if not reply.done:
                self._overlap(reply, 0, run["text"][: len(reply.text)])
                if len(run["text"]) > len(reply.text):
                    reply.extend(run["text"][len(reply.text) :], self.clock())

    def _never_comes(self, question: str) -> None:
        self.interrupted.add(question)
        for reply in [it for it in self.unfinished() if it.question == question]:
            if reply.owed():
                self.complain("cut", f"{reply.run}: nothing of {reply.owed()} code points kept")
            del self.replies[reply.run]

    def note(self, frame: Frame) -> None:
        """Keep *frame* in the trace, without its texts."""
        facts = {key: value for key, value in frame.items() if key in TRACED}
        self.trace.append(f"{self.clock():.3f} {facts} {_subject(frame)}")

    def complain(self, kind: str, detail: str) -> None:
        """Note something that the server should not have done."""
        self.complaints.append(f"{kind}: {detail}")


def _subject(frame: Frame) -> str:
    """What a lasting event is about."""
    if "run" in frame:
        return str(frame["run"])
    about = frame.get("message") or frame.get("conversation") or frame.get("memory") or {}
    return str(about.get("id", "")) if isinstance(about, dict) else str(about)
