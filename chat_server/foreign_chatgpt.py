"""ChatGPT's export (``conversations.json``) as lines; no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
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

TITLE_CHARS: Final = 200
SPOKEN: Final = frozenset({"text", "multimodal_text"})


class _Author(msgspec.Struct):
    role: str


class _Content(msgspec.Struct):
    content_type: str
    parts: list[str | Part | None] = []


class _Metadata(msgspec.Struct):
    is_visually_hidden_from_conversation: bool | None = None
    model_slug: str | None = None


class _Message(msgspec.Struct):
    author: _Author
    content: _Content
    create_time: float | None = None
    recipient: str | None = None
    metadata: _Metadata | None = None


class _Node(msgspec.Struct):
    message: _Message | None = None
    parent: str | None = None


class _Conversation(msgspec.Struct):
    """One conversation of ChatGPT: a tree of nodes."""

    mapping: dict[str, _Node]
    title: str | None = None
    create_time: float | None = None
    current_node: str | None = None
    conversation_id: str | None = None
    id: str | None = None


def chatgpt_lines(source: Source) -> Iterator[Line | Skipped]:
    """The messages of ChatGPT's ``conversations.json``; one conversation in memory at a time."""
    for number, raw in enumerate(values(source), 1):
        conversation = decoded(raw, _Conversation)
        if conversation is None:
            yield Skipped(number, "not a conversation of ChatGPT")
        else:
            given = conversation.conversation_id or conversation.id or digest(bytes(raw))
            yield from _tree_lines(conversation, "g" + digest(given.encode()))


def _tree_lines(conversation: _Conversation, conversation_id: str) -> Iterator[Line]:
    nodes = conversation.mapping
    shown = {key: text for key, node in nodes.items() if (text := _spoken(node.message))}
    parents = {key: _shown_above(key, nodes, shown) for key in shown}
    branched = any(count > 1 for count in Counter(parents.values()).values())
    current = conversation.current_node
    if current is not None and current not in shown:
        current = _shown_above(current, nodes, shown)
    head = line_id(conversation_id, current) if branched and current else None
    title: str | None = (conversation.title or "")[:TITLE_CHARS] or None
    for key in _parents_first(parents):
        message, parent = nodes[key].message, parents[key]
        if message is None:
            continue
        at = message.create_time or conversation.create_time
        model = message.metadata.model_slug if message.metadata else None
        role = ROLES[message.author.role]
        yield Line(
            id=line_id(conversation_id, key),
            conversation=conversation_id,
            role=role,
            text=shown[key],
            timestamp=at,
            parent=line_id(conversation_id, parent) if parent else None,
            title=title,
            head=head,
            model=model if role == "assistant" else None,
        )
        title = head = None


def _spoken(message: _Message | None) -> str:
    """What is said in *message* for the other side to read; nothing for all else."""
    if message is None or message.author.role not in ROLES:
        return ""
    hidden = message.metadata and message.metadata.is_visually_hidden_from_conversation
    if hidden or message.recipient not in {None, "all"}:
        return ""
    if message.content.content_type not in SPOKEN:
        return ""
    return joined(message.content.parts)


def _shown_above(key: str, nodes: Mapping[str, _Node], shown: Mapping[str, str]) -> str | None:
    """The nearest node above *key* that is shown; a circle ends at its beginning."""
    seen = {key}
    parent = nodes[key].parent if key in nodes else None
    while parent is not None and parent in nodes and parent not in shown and parent not in seen:
        seen.add(parent)
        parent = nodes[parent].parent
    return parent if parent in shown and parent not in seen else None


def _parents_first(parents: Mapping[str, str | None]) -> Iterator[str]:
    """Each branch to its end, then the next; what stands in a circle is left out."""
    children: dict[str | None, list[str]] = {}
    for key, parent in parents.items():
        children.setdefault(parent, []).append(key)
    waiting = children.get(None, [])[::-1]
    while waiting:
        key = waiting.pop()
        yield key
        waiting += children.get(key, [])[::-1]
