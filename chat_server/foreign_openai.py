"""OpenAI's lists of messages as lines; no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from chat_server.foreign_formats import (
    ROLES,
    Part,
    Skipped,
    Source,
    decoded,
    digest,
    joined,
    line_id,
    values,
)
from chat_server.transfer_lines import Line
from memory.messages import Role

AUTHOR_CHARS: Final = 80


class _Message(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None
    name: str | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]


def openai_lines(source: Source) -> Iterator[Line | Skipped]:
    """The messages of a list, of ``{"messages": [...]}``, of a list of either, or of JSON lines of
    those; one conversation in memory at a time.
    """
    for number, raw in enumerate(_chats(source), 1):
        listed = decoded(raw, list[_Message])
        chat = _Chat(listed) if listed is not None else decoded(raw, _Chat)
        if chat is None:
            yield Skipped(number, "neither a list of messages nor an object that has one")
        else:
            yield from _chat_lines(chat)


def _chats(source: Source) -> Iterator[msgspec.Raw | Source]:
    """The conversations of *source*, unread; messages side by side are one conversation."""
    if decoded(source, list[_Message]) is not None:
        yield source
        return
    if decoded(next(values(source), b""), _Message) is None:
        yield from values(source)
        return
    side_by_side = [bytes(value) for value in values(source) if decoded(value, _Message)]
    yield b"[" + b",".join(side_by_side) + b"]"


def _chat_lines(chat: _Chat) -> Iterator[Line]:
    said: list[tuple[Role, str, str | None]] = []
    for message in chat.messages:
        content = message.content
        text = content.strip() if isinstance(content, str) else joined(content or [])
        if message.role in ROLES and text:
            said.append((ROLES[message.role], text, (message.name or "")[:AUTHOR_CHARS] or None))
    conversation_id = "o" + digest(msgspec.json.encode(said))
    before: str | None = None
    for number, (role, text, author) in enumerate(said):
        own = line_id(conversation_id, str(number))
        yield Line(
            id=own,
            conversation=conversation_id,
            role=role,
            text=text,
            parent=before,
            author=author,
        )
        before = own
