"""The replies that are shown and not stored, and what of them is to be written; no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Protocol

from memory.journal_records import (
    ReplyBegan,
    ReplyEnded,
    ReplyGrew,
    ReplySettled,
    frame,
)
from memory.messages import Message, MessageId, UserId

MAX_OPEN: Final = 2_000
"""Replies that are followed or kept at a time."""
MAX_KEPT_CHARS: Final = 16_000_000


class Growing(Protocol):
    """A reply that is being made: ``text`` only grows, and has ``chars`` code points."""

    @property
    def chars(self) -> int: ...

    @property
    def text(self) -> str: ...


class _Reply:
    """One of them: followed while it has a ``source``, kept once there is a ``message``."""

    __slots__ = ("began", "message", "source", "written")

    def __init__(self, began: ReplyBegan | None, source: Growing | None) -> None:
        self.began = began
        self.source = source
        self.message: Message | None = None
        self.written = 0
        """Code points of it that are on disk."""

    @property
    def user(self) -> UserId | None:
        known = self.message or self.began
        return known.user if known is not None else None


class OpenReplies:
    """What the journal must hold. :meth:`changes` is what was not given out before."""

    def __init__(self) -> None:
        self._replies: dict[MessageId, _Reply] = {}
        self._followed: dict[MessageId, _Reply] = {}
        self._kept_chars = 0
        self._ended: list[Message] = []
        self._settled: list[MessageId] = []

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def growing(self) -> bool:
        """Whether one is followed: there may be something new at any time."""
        return bool(self._followed)

    @property
    def kept(self) -> tuple[Message, ...]:
        """Those that have ended, in the order in which they began."""
        found = (reply.message for reply in self._replies.values())
        return tuple(message for message in found if message is not None)

    def follow(self, began: ReplyBegan, source: Growing) -> bool:
        """Take in a reply that is being made; ``False``: there are too many."""
        if len(self._replies) >= MAX_OPEN:
            return False
        self._replies[began.reply] = self._followed[began.reply] = _Reply(began, source)
        return True

    def keep(self, message: Message) -> bool:
        """Take in a reply as it ended; ``False``: there are too many, or too much of them."""
        known = self._replies.get(message.id)
        if known is None and len(self._replies) >= MAX_OPEN:
            return False
        if self._kept_chars + len(message.text) > MAX_KEPT_CHARS:
            return False
        reply = known or _Reply(None, None)
        if reply.message is None:
            reply.message = message
            self._replies[message.id] = reply
            self._followed.pop(message.id, None)
            self._kept_chars += len(message.text)
            self._ended.append(message)
        return True

    def settle(self, reply: MessageId) -> bool:
        """Drop *reply*; whether something is to be written because of it."""
        dropped = self._drop(reply)
        if dropped is None or not (dropped.written or dropped.message):
            return False
        self._settled.append(reply)
        return True

    def forget(self, user: UserId) -> None:
        """Drop all of *user*'s."""
        self.forget_messages([id_ for id_, reply in self._replies.items() if reply.user == user])

    def forget_messages(self, ids: Iterable[MessageId]) -> None:
        """Drop the replies *ids*."""
        for reply in ids:
            self._drop(reply)

    def changes(self) -> tuple[bytes, bool]:
        """What is new, as frames, and whether it must be on disk soon: what is settled need not."""
        ended, self._ended = self._ended, []
        settled, self._settled = self._settled, []
        frames = [piece for reply in self._followed.values() for piece in _grown(reply)]
        frames += [frame(ReplyEnded(message)) for message in ended if message.id in self._replies]
        must_sync = bool(frames)
        frames += [frame(ReplySettled(reply)) for reply in settled]
        return b"".join(frames), must_sync

    def everything(self) -> bytes:
        """All that the journal must hold, as frames."""
        self._ended.clear()
        self._settled.clear()
        frames: list[bytes] = []
        for reply in self._replies.values():
            if reply.message is not None:
                frames.append(frame(ReplyEnded(reply.message)))
            else:
                reply.written = 0
                frames += _grown(reply)
        return b"".join(frames)

    def _drop(self, reply: MessageId) -> _Reply | None:
        self._followed.pop(reply, None)
        dropped = self._replies.pop(reply, None)
        if dropped is not None and dropped.message is not None:
            self._kept_chars -= len(dropped.message.text)
        return dropped


def _grown(reply: _Reply) -> Collection[bytes]:
    """Frames of what *reply* says and was not written; before its first words, what it is."""
    if reply.source is None or reply.began is None or reply.source.chars == reply.written:
        return ()
    grew = ReplyGrew(reply.began.reply, reply.written, reply.source.text[reply.written :])
    frames = (frame(grew),) if reply.written else (frame(reply.began), frame(grew))
    reply.written = reply.source.chars
    return frames
