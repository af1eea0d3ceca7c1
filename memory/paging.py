"""Where a walk over pages stands, as text that the caller gives back; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

from memory.long_term import ConversationPage
from memory.messages import Conversation
from memory.records import month_of

_MONTH_CURSOR: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])(?:\.(\d{1,9}))?", re.ASCII)


class NotACursor(ValueError):
    """A text that no page has given to continue with."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a cursor")


def month_cursor(month: int, left: int | None) -> str:
    """The walk by months: ``2026-05``, or ``2026-05.12`` with twelve of that month to come."""
    spelled = f"{month // 12:04d}-{month % 12 + 1:02d}"
    return spelled if left is None else f"{spelled}.{left}"


def parse_month_cursor(text: str) -> tuple[int, int | None]:
    """The arguments of :func:`month_cursor`; ``NotACursor`` for what it did not make."""
    match = _MONTH_CURSOR.fullmatch(text)
    if match is None:
        raise NotACursor(text)
    year, month, left = match.groups()
    return int(year) * 12 + int(month) - 1, None if left is None else int(left)


def conversation_page(
    conversations: Iterable[Conversation], *, limit: int, before: str | None
) -> ConversationPage:
    """The first *limit* of *conversations*, last updated first, after the one that ended the page
    before.

    One that is updated between two pages moves to the front: it may be missing from the second,
    and is then known from a newer first one. ``NotACursor`` for a *before* that is not ours.
    """
    ordered = sorted(conversations, key=_place, reverse=True)
    if before is not None:
        last = _parse_place(before)
        ordered = [conversation for conversation in ordered if _place(conversation) < last]
    page = tuple(ordered[: max(0, limit)])
    more = bool(page) and len(page) < len(ordered)
    return ConversationPage(page, f"{page[-1].updated_at!r}/{page[-1].id}" if more else None)


def month_of_place(before: str) -> int:
    """The month in which that conversation was updated; ``NotACursor`` likewise."""
    return month_of(_parse_place(before)[0])


def _place(conversation: Conversation) -> tuple[float, str]:
    return conversation.updated_at, conversation.id


def _parse_place(text: str) -> tuple[float, str]:
    updated_at, _, conversation_id = text.partition("/")
    try:
        place = float(updated_at), conversation_id
    except ValueError as error:
        raise NotACursor(text) from error
    if not conversation_id or math.isnan(place[0]):
        raise NotACursor(text)
    return place
