"""What the fake server remembers, and what it has been told to do next."""

from __future__ import annotations

import dataclasses
import time
from collections import deque

Json = dict[str, object]
"""One frame or body; the fake does not check what the client reads."""


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """One scripted answer to a ``send``: an ``error`` frame."""

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
    text: str = ""
    stopped: bool = False


@dataclasses.dataclass
class FakeConversation:
    id: str
    title: str
    created_at: float
    messages: list[Json] = dataclasses.field(default_factory=list)
    updated_at: float = 0.0

    def view(self) -> Json:
        head = self.messages[-1]["id"] if self.messages else None
        return {
            "id": self.id,
            "title": self.title,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "head": head,
        }

    def add(self, message: Json) -> None:
        self.messages.append(message)
        self.updated_at = float(str(message["timestamp"]))


@dataclasses.dataclass
class FakeUser:
    name: str
    conversations: dict[str, FakeConversation] = dataclasses.field(default_factory=dict)
    runs: dict[str, FakeRun] = dataclasses.field(default_factory=dict)

    def conversation(self, id_: str, title: str) -> FakeConversation:
        if id_ not in self.conversations:
            self.conversations[id_] = FakeConversation(id_, title, time.time())
        return self.conversations[id_]

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
        self.hold_list = False
        self.unreadable = False
        self.heartbeat_s = 25.0
        self.close_on_hello: deque[int] = deque()

    def next_reply(self) -> Reply:
        return self.replies.popleft() if self.replies else Reply(pieces=("All ", "right."))
