"""Asking a store again that is away for a moment: for work that nobody watches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import structlog

from memory.errors import StoreBusy, StoreError, StoreRefused, StoreUnavailable, StoreUnknown

log = structlog.get_logger(__name__)

WITHIN_S = 30.0
"""A killed store is back within 3 s, and then reads its log."""
PAUSE_S = 0.5

Answer = TypeVar("Answer")


def passing(fault: StoreError) -> bool:
    """Whether the same request may succeed a little later."""
    return isinstance(fault, StoreUnavailable | StoreUnknown | StoreBusy) and not isinstance(
        fault, StoreRefused
    )


async def insist(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer to *ask*, which may be asked again; faults that pass are waited for, for at most
    ``WITHIN_S``.

    Raises:
        StoreError: one that does not pass, or the last one when the time was over.
    """
    deadline = anyio.current_time() + WITHIN_S
    while True:
        try:
            return await ask()
        except StoreError as fault:
            if not passing(fault) or anyio.current_time() >= deadline:
                raise
            log.warning("store.waited_for", reason=str(fault))
        await anyio.sleep(PAUSE_S)
