"""Warm copies: users' hot memories on disk, so that they need not be read from the store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import structlog

from memory.errors import WarmCopyUnusable, WarmFailed
from memory.hot_memory import HotMemory
from memory.hot_state import HotState, pack, unpack
from memory.messages import MessageId, UserId
from memory.warm_files import Ticket, WarmFiles

log = structlog.get_logger(__name__)

AT_ONCE = 2
LEAST_MESSAGES = 50
"""Fewer are read from the store as fast."""
TRIES = 3


class WarmCopy(NamedTuple):
    """A memory as it was once, and the user's version then."""

    memory: HotMemory
    version: int | None


class WarmMemories:
    """Keeps copies in *folder*, derived data that may be deleted at any time.

    They are valid for vectors and marks of the model with that *fingerprint* only. A failing disk
    costs the copies and is logged. *exclusive*: nobody else writes to the store, so that a copy
    of another count of commits can be trusted after a look at what is new (see ``hot_reading``).
    """

    def __init__(self, folder: Path, *, fingerprint: str, exclusive: bool) -> None:
        self.exclusive = exclusive
        self._files = WarmFiles(folder)
        self._fingerprint = f"{fingerprint} {_recipe()}"
        self._voided: set[UserId] = set()
        self._threads = anyio.CapacityLimiter(AT_ONCE)

    async def load(self, user: UserId, empty: Callable[[], HotMemory]) -> WarmCopy | None:
        """*user*'s copy, in a memory from *empty*; ``None`` if there is none that can be used."""
        if user in self._voided:
            return None
        return await anyio.to_thread.run_sync(self._load, user, empty, limiter=self._threads)

    def ticket(self, user: UserId) -> Ticket:
        """Leave to :meth:`save` a memory that is whole now; void once *user* is forgotten."""
        return self._files.ticket(user)

    async def save(self, user: UserId, ticket: Ticket, copy: WarmCopy) -> bool:
        """Keep *copy*; whether it was. Its memory may change meanwhile: then it may not be kept."""
        return await anyio.to_thread.run_sync(self._save, user, ticket, copy, limiter=self._threads)

    def void(self, user: UserId) -> None:
        """Neither read nor keep what *user* has said so far; call :meth:`forget_user` then."""
        self._files.void(user)
        self._voided.add(user)

    async def forget_user(self, user: UserId) -> None:
        """Leave no byte of *user*'s.

        Raises:
            WarmFailed: something may be left; again is safe.
        """
        self.void(user)
        await self._change(lambda: self._files.forget(user))
        self._voided.discard(user)

    async def forget_messages(self, ids: Collection[MessageId]) -> None:  # noqa: ARG002 - see below
        """Leave no byte of users who are void, as those are whose messages are to be forgotten.

        Raises:
            WarmFailed: something may be left; again is safe.
        """
        for user in list(self._voided):
            await self.forget_user(user)

    async def clear(self) -> None:
        """Leave nobody's copy.

        Raises:
            WarmFailed: something may be left; again is safe.
        """
        await self._change(self._files.clear)

    async def distrust(self, user: UserId) -> None:
        """As :meth:`forget_user`; never fails: what is left is void in this process."""
        try:
            await self.forget_user(user)
        except WarmFailed as fault:
            log.warning("warm_memory.not_forgotten", reason=str(fault))

    async def distrust_all(self) -> None:
        """As :meth:`clear`; never fails."""
        try:
            await self.clear()
        except WarmFailed as fault:
            log.warning("warm_memory.not_forgotten", reason=str(fault))

    async def _change(self, change: Callable[[], None]) -> None:
        try:
            await anyio.to_thread.run_sync(change)
        except OSError as fault:
            raise WarmFailed(fault.strerror or str(fault)) from fault

    def _load(self, user: UserId, empty: Callable[[], HotMemory]) -> WarmCopy | None:
        started = time.perf_counter()
        try:
            data = self._files.read(user)
            if data is None:
                return None
            state, version = unpack(data, fingerprint=self._fingerprint)
            memory = empty()
            memory.restore(state)
        except (OSError, WarmCopyUnusable) as fault:
            log.info("warm_memory.not_used", reason=str(fault))
            self._drop(user)
            return None
        took_ms = round((time.perf_counter() - started) * 1000, 1)
        log.info("warm_memory.loaded", messages=len(memory), took_ms=took_ms)
        return WarmCopy(memory, version)

    def _save(self, user: UserId, ticket: Ticket, copy: WarmCopy) -> bool:
        started = time.perf_counter()
        for _ in range(TRIES):
            state = _dumped(copy.memory)
            if state is not None:
                break
        else:
            return False
        data = pack(state, fingerprint=self._fingerprint, version=copy.version)
        try:
            kept = self._files.write(user, ticket, data)
        except OSError as fault:
            log.warning("warm_memory.not_saved", reason=fault.strerror or str(fault))
            return False
        if kept:
            took_ms = round((time.perf_counter() - started) * 1000, 1)
            log.info("warm_memory.saved", bytes=len(data), took_ms=took_ms)
        return kept

    def _drop(self, user: UserId) -> None:
        try:
            self._files.forget(user)
        except OSError as fault:
            log.warning("warm_memory.not_dropped", reason=fault.strerror or str(fault))


def _recipe() -> str:
    """What becomes of a text's words depends on these files: other ones void all copies."""
    digest = hashlib.sha256()
    for name in (
        "tokens.py",
        "concepts.py",
        "concepts.txt",
        "message_terms.py",
        "token_marks.py",
        "packed_messages.py",
    ):
        digest.update((resources.files("memory") / name).read_bytes())
    return digest.hexdigest()


def _dumped(memory: HotMemory) -> HotState | None:
    """*memory*'s state at one moment, seen from another thread; ``None`` if it changed."""
    changes = memory.changes
    if changes % 2:
        return None
    try:
        state = memory.dump()
    except (RuntimeError, LookupError, ValueError) as fault:
        if memory.changes == changes:
            raise
        log.debug("warm_memory.changed", reason=type(fault).__name__)
        return None
    return state if memory.changes == changes else None
