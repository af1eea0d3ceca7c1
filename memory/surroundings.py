"""What is around a store on Chroma: who else writes, and who is told and asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from memory.chroma_client import Report
from memory.store_gate import StoreGate


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a store on Chroma may assume, tells the process around it, and asks of it.

    ``shared``: other processes write to the same Chroma. ``on_batch`` is told how many messages a
    batch holds. ``incomplete`` says of a collection's name whether its index is being rebuilt.
    ``gate`` and ``on_damage``: as of :class:`memory.chroma_client.ChromaClient`. ``before_write``
    raises ``StoreUnavailable`` where nothing should be written now.
    """

    shared: bool = False
    on_batch: Callable[[int], None] = lambda _messages: None
    incomplete: Callable[[str], bool] = lambda _name: False
    before_write: Callable[[], None] = lambda: None
    gate: StoreGate | None = None
    on_damage: Report = lambda _collection, _damage: None


ALONE: Final = Surroundings()
"""Nobody else writes, and nobody asks."""
