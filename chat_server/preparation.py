"""What a message needs before its reply: its vector and its memories, perhaps before it is sent."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from memory.dual_memory import DualMemory
from memory.embedding import Embedded
from memory.errors import MemoryFault
from memory.messages import UserId
from memory.planner import Plan, plan_for

log = structlog.get_logger(__name__)

_ENDING: Final = ("P", "Z")
"""Categories of what may follow a draft without changing what is asked."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A text whose vector is known, and for which memories were searched.

    ``took_ms``: what that took.
    """

    text: str
    embedded: Embedded
    took_ms: float = 0.0

    def says(self, text: str) -> bool:
        """Whether it is *text*, but for white space."""
        return _folded(self.text) == _folded(text)

    def fits(self, text: str) -> bool:
        """Whether its memories are those of *text*: only punctuation may have come since."""
        return fits(self.text, text)


def fits(draft: str, text: str) -> bool:
    """Whether *text* is *draft*, but for white space and for punctuation at the end."""
    draft, text = _folded(draft), _folded(text)
    if not draft or not text.startswith(draft):
        return False
    return all(unicodedata.category(char)[0] in _ENDING for char in text[len(draft) :])


def _folded(text: str) -> str:
    return " ".join(text.split())


class GiveWay:
    """Lets one draft at a time be prepared, and none while a message is."""

    def __init__(self) -> None:
        self._messages = 0
        self._quiet = anyio.Event()
        self._quiet.set()
        self._one = anyio.Semaphore(1)

    @property
    def busy(self) -> bool:
        """Whether a message is being prepared."""
        return self._messages > 0

    @contextmanager
    def message(self) -> Generator[None]:
        """Drafts that have not begun wait until this has ended."""
        if not self._messages:
            self._quiet = anyio.Event()
        self._messages += 1
        try:
            yield
        finally:
            self._messages -= 1
            if not self._messages:
                self._quiet.set()

    @asynccontextmanager
    async def draft(self) -> AsyncGenerator[None]:
        """Begins when no message and no other draft is being prepared."""
        async with self._one:
            while self._messages:
                await self._quiet.wait()
            yield


def most_recalled(plan: Plan, max_results: int) -> int:
    """How many memories are searched for: twice what a prompt takes, for what repeats the
    window's words is dropped.
    """
    return 2 * plan.limit(max_results)


class Preparation:
    """Prepares messages, and drafts of them while no message needs it."""

    def __init__(self, memory: DualMemory, max_results: int) -> None:
        self._memory = memory
        self._max_results = max_results
        self.giving_way = GiveWay()

    async def embed(self, user: UserId, text: str) -> Drafted:
        """The vector of *text*, which is being sent; zeros where there is none."""
        return Drafted(text, await self._memory.embed_marked(user, text))

    async def prepare(self, user: UserId, text: str) -> Drafted | None:
        """Do for *text*, which *user* is typing, all that can be done before it is sent; ``None``
        when it cannot.

        A boundary: what goes wrong is logged, and must not end the connection. It is done again
        when the message is sent.
        """
        async with self.giving_way.draft():
            begun = time.perf_counter()
            try:
                embedded = (await self.embed(user, text)).embedded
                plan = plan_for(text)
                limit = most_recalled(plan, self._max_results)
                if plan.searches and limit:
                    await self._memory.recall(user, text, embedded, limit=limit)
            except MemoryFault as fault:
                log.info("draft.not_prepared", reason=str(fault))
                return None
            except Exception:
                log.exception("draft.failed")
                return None
        took_ms = (time.perf_counter() - begun) * 1000
        return Drafted(text, embedded, took_ms) if embedded.vector.any() else None
