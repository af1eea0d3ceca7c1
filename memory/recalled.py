"""What recall returns."""

from __future__ import annotations

import msgspec

from memory.messages import ConversationId, MessageId, Role


class Recalled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One memory that was found for a query.

    ``score`` orders the results of one query: the chance, 0..1, that the item is among what
    answers it. ``why`` names the signals that brought it up, strongest first: ``words``,
    ``meaning``, ``neighbour``, ``time``, ``speaker``, ``recency``.
    """

    id: MessageId
    text: str
    score: float
    timestamp: float
    conversation: ConversationId
    role: Role
    why: tuple[str, ...]
    author: str | None = None
    client_id: str | None = None


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one search: the best first. ``partial``: not all memories were searched."""

    items: tuple[Recalled, ...]
    took_ms: float
    partial: bool = False
