"""What a reply is written from: the recent part of the conversation, and what was recalled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from memory.messages import Message
from memory.ranking import RELEVANT
from memory.recalled import Recalled
from memory.short_term import Window

NEIGHBOUR_ALONE: Final = ("neighbour",)


class Context(msgspec.Struct, frozen=True):
    """``window``: oldest first, without the question. ``memories``: best first."""

    window: tuple[Message, ...]
    memories: tuple[Recalled, ...]


def merge_context(
    window: Window, recalled: Iterable[Recalled], *, question: Message, max_results: int
) -> Context:
    """The window without the question, and the best *max_results* of *recalled*.

    A memory is left out when the window or the question says the same, by id or by words, or
    when a better one does; also when it is not ``RELEVANT``: what does not belong to the question
    makes answers worse. One that only stood next to something is left out without that.
    *recalled* is best first, and stays in that order.
    """
    recent = tuple(message for message in window.messages if message.id != question.id)
    said = {question.id, *(message.id for message in recent)}
    texts = {_folded(question.text), *(_folded(message.text) for message in recent)}
    memories: list[Recalled] = []
    for memory in recalled:
        if len(memories) >= max_results or memory.score < RELEVANT:
            break
        folded = _folded(memory.text)
        if memory.id in said or folded in texts:
            continue
        said.add(memory.id)
        texts.add(folded)
        memories.append(memory)
    return Context(recent, _accompanied(memories))


def _accompanied(memories: list[Recalled]) -> tuple[Recalled, ...]:
    """Those with a reason of their own, and those of the same conversations as these."""
    talks = {memory.conversation for memory in memories if memory.why != NEIGHBOUR_ALONE}
    return tuple(
        memory
        for memory in memories
        if memory.why != NEIGHBOUR_ALONE or memory.conversation in talks
    )


def _folded(text: str) -> str:
    """Texts that differ in case and white space only say the same."""
    return " ".join(text.casefold().split())
