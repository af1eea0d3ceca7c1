"""What the fake server remembers, and what it has been told to do next."""

from __future__ import annotations

import dataclasses
import time
from collections import deque

Json = dict[str, object]
"""One frame or body; the fake does not check what the client reads."""

DURABLE = {
    "message.created",
    "message.deleted",
    "run.started",
    "run.done",
    "conversation.updated",
    "conversation.deleted",
}
"""The events with a place in the user's order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """One scripted reply: ``pieces`` are its deltas.

    After ``hold_after`` pieces it waits for ``FakeServer.release``; after ``drop_after`` pieces
    all connections are dropped, and it goes on.
    """

    pieces: tuple[str, ...]
    memories: tuple[Json, ...] = ()
    model: str = "gpt-4o-mini"
    status: str = "completed"
    error: Json | None = None
    finish_reason: str | None = "stop"
    hold_after: int | None = None
    drop_after: int | None = None
    kept: bool = False
    """Its ``run.done`` says that it is kept and not stored yet."""
    garbled: str | None = None
    """Its ``run.done`` has this text, with the length and digest of the right one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """One scripted answer to a command: an ``error`` frame."""

    code: str
    retryable: bool
    retry_after_ms: int | None = None
    message: str = "refused by the script"


@dataclasses.dataclass(kw_only=True)
class FakeRun:
    id: str
    conversation: str
    question: str
    reply: Reply
    parent: str | None = None
    text: str = ""
    stopped: bool = False


@dataclasses.dataclass
class FakeConversation:
    """A tree of messages; ``head`` is the one whose branch is shown, None while it is a line."""

    id: str
    title: str
    created_at: float
    messages: list[Json] = dataclasses.field(default_factory=list)
    updated_at: float = 0.0
    head: str | None = None

    def view(self) -> Json:
        return {
            "id": self.id,
            "title": self.title,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "head": self.head,
        }

    def add(self, message: Json) -> None:
        self.messages.append(message)
        self.updated_at = float(str(message["timestamp"]))

    def find(self, id_: object) -> Json | None:
        return next((message for message in self.messages if message["id"] == id_), None)

    def tail(self) -> str | None:
        """The last message of the branch that is shown."""
        line = self.line()
        return str(line[-1]["id"]) if line else None

    def line(self) -> list[Json]:
        """The branch that is shown, as the history has it."""
        if not self.messages:
            return []
        leaf = self.find(self.head) if self.head else self.messages[-1]
        assert leaf is not None
        while children := [held for held in self.messages if held["parent"] == leaf["id"]]:
            leaf = children[-1]
        line = [leaf]
        while (parent := self.find(line[0]["parent"])) is not None:
            line.insert(0, parent)
        return [message | self._branches(message) for message in line]

    def _branches(self, message: Json) -> Json:
        place = (message["parent"], message["role"])
        beside = [held["id"] for held in self.messages if (held["parent"], held["role"]) == place]
        return {"branches": beside} if len(beside) > 1 else {}


@dataclasses.dataclass
class FakeUser:
    """A user's conversations, runs, and lasting events since ``epoch`` began."""

    name: str
    conversations: dict[str, FakeConversation] = dataclasses.field(default_factory=dict)
    runs: dict[str, FakeRun] = dataclasses.field(default_factory=dict)
    epoch: int = 1
    events: list[Json] = dataclasses.field(default_factory=list)
    redacted: int = 0
    """Events up to this place are not told again."""

    def place(self, frame: Json) -> Json:
        """*frame* with its place in the order, where it is one that lasts and has none."""
        if frame["type"] not in DURABLE or "seq" in frame:
            return frame
        placed = frame | {"seq": len(self.events) + 1}
        self.events.append(placed)
        return placed

    def missed(self, resume: object) -> list[Json] | None:
        """What was told since *resume* (of a ``hello``); None when that is not known."""
        if not isinstance(resume, dict) or resume["epoch"] != f"e{self.epoch}":
            return None
        if int(resume["seq"]) < self.redacted:
            return None
        return self.events[int(resume["seq"]) :]

    def forget_events(self) -> None:
        self.epoch += 1
        self.redacted = 0
        self.events.clear()

    def conversation(self, id_: str, title: str) -> FakeConversation:
        if id_ not in self.conversations:
            self.conversations[id_] = FakeConversation(id_, title, time.time())
        return self.conversations[id_]

    def of_message(self, id_: object) -> FakeConversation | None:
        """The conversation in which message *id_* stands."""
        known = self.conversations.values()
        return next((one for one in known if one.find(id_) is not None), None)

    def erase(self, id_: object) -> Json:
        """Leave no words of message *id_*, nor of what was told before; what tells of that."""
        conversation = self.of_message(id_)
        assert conversation is not None
        held = conversation.find(id_)
        assert held is not None
        for name in ("client_id", "model"):
            held.pop(name, None)
        held |= {"text": "", "status": "deleted"}
        self.redacted = len(self.events)
        return {"type": "message.deleted", "conversation": conversation.id, "message": dict(held)}

    def seed(self, id_: str, title: str, lines: list[tuple[str, str]], *, ago_s: float) -> None:
        """A conversation of ``(role, text)`` lines, a minute apart, that ended *ago_s* ago."""
        conversation = self.conversation(id_, title)
        begin = time.time() - ago_s - 60 * len(lines)
        for number, (role, text) in enumerate(lines):
            parent = f"{id_}-{number - 1}" if number else None
            message: Json = {"id": f"{id_}-{number}", "parent": parent, "role": role}
            message |= {"text": text, "timestamp": begin + 60 * number, "status": "completed"}
            conversation.add(message)


def page_of(messages: list[Json], before: str | None, limit: int) -> tuple[list[Json], str | None]:
    """The newest *limit* messages older than *before*, and the cursor to those before them."""
    end = len(messages)
    if before is not None:
        end = next(index for index, message in enumerate(messages) if message["id"] == before)
    begin = max(0, end - limit)
    return messages[begin:end], str(messages[begin]["id"]) if begin else None


class Script:
    """What happens next; what was not scripted goes well. Read and written from both threads."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.refusals: deque[Refusal] = deque()
        self.limits: Json = {"user": {"limit": 30, "remaining": 28, "reset_ms": 60_000}}
        self.refuse_connections = False
        self.ignore_sends = False
        self.ignore_attaches = False
        self.refuse_attaches: deque[Refusal] = deque()
        self.refuse_heads: deque[Refusal] = deque()
        self.hold_list = False
        self.unreadable = False
        self.heartbeat_s = 25.0
        self.close_on_hello: deque[int] = deque()

    def next_reply(self) -> Reply:
        return self.replies.popleft() if self.replies else Reply(pieces=("All ", "right."))
