"""Events about what is remembered: as :mod:`chat_server.events`."""

from __future__ import annotations

import msgspec

from chat_server.events import DurableEvent
from memory.messages import MessageId


class MemoryState(msgspec.Struct, frozen=True, kw_only=True):
    """A message as recall sees it; ``id`` is the message's."""

    id: MessageId
    forgotten: bool


class MemoryForgotten(DurableEvent, frozen=True, kw_only=True, tag="memory.forgotten"):
    """A message is not recalled any more; it stands in its conversation as before."""

    memory: MemoryState


class MemoryUpdated(DurableEvent, frozen=True, kw_only=True, tag="memory.updated"):
    """A message that was forgotten is recalled again."""

    memory: MemoryState
