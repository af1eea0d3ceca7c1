"""The texts of replies in the making, kept where other processes find them if this one dies."""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
import structlog

from chat_server.runs import Run
from memory.errors import ShortTermUnavailable
from memory.live.broker import Broker, RunFacts, RunText

log = structlog.get_logger(__name__)

CHECKPOINT_EVERY_S: Final = 0.1
PAUSE_S: Final = 0.5
"""After a failure: the broker is not there so soon, and each try is a line of the log."""


class _Followed:
    """A run, how much of its text is kept, and who knows of it."""

    def __init__(self, run: Run, facts: RunFacts) -> None:
        self.run = run
        self.facts = facts
        self.told = False
        """Others may know of it, even if nobody answered."""
        self.begun = False
        """They do."""
        self.chars = 0
        self.size_bytes = 0


class Checkpoints:
    """Keeps the text of every run of this process, all of them in one round trip each time.

    A reply that ends between two checkpoints costs nothing. While the broker is away nothing is
    kept; what was said meanwhile comes with the first checkpoint after it.
    """

    def __init__(self, broker: Broker, model: str) -> None:
        self._broker = broker
        self._model = model
        self._followed: dict[str, _Followed] = {}
        self._ended: deque[_Followed] = deque()
        self._woken = anyio.Event()

    def follow(self, run: Run) -> None:
        """Keep what *run* says, until it is settled. Its question is stored."""
        facts = RunFacts(
            run=run.id,
            user=run.user,
            conversation=run.question.conversation,
            question=run.question.id,
            node=self._broker.node,
            timestamp=run.question.timestamp,
            model=self._model,
        )
        self._followed[run.id] = _Followed(run, facts)
        self._woken.set()

    def settle(self, run: Run) -> None:
        """*run* is over."""
        followed = self._followed.pop(run.id, None)
        if followed is not None and followed.told:
            self._ended.append(followed)
            self._woken.set()

    def begin_anew(self) -> None:
        """What was kept is gone: keep all of it again."""
        for followed in self._followed.values():
            followed.told = followed.begun = False
            followed.chars = followed.size_bytes = 0

    async def run(self) -> None:
        """Keep what is new, until cancelled."""
        while True:
            if not self._followed and not self._ended:
                await self._woken.wait()
            self._woken = anyio.Event()
            await anyio.sleep(CHECKPOINT_EVERY_S)
            try:
                await self.keep()
            except ShortTermUnavailable as fault:
                log.info("runs.not_kept", runs=len(self._followed), reason=str(fault))
                await anyio.sleep(PAUSE_S)

    async def keep(self) -> None:
        """Keep what is new now.

        Raises:
            ShortTermUnavailable: some of it may be kept; again is safe.
        """
        while self._ended:
            ended = self._ended[0]  # others end meanwhile
            await self._broker.end_run(ended.facts.user, ended.facts.run)
            self._ended.popleft()
        for followed in list(self._followed.values()):
            if not followed.begun and followed.run.id in self._followed:
                followed.told = True
                await self._broker.begin_run(followed.facts)
                followed.begun = True
        await self._keep_texts()

    async def _keep_texts(self) -> None:
        grown: list[tuple[_Followed, RunText, int]] = []
        for followed in self._followed.values():
            said, facts = followed.run.text, followed.facts
            if len(said) > followed.chars:
                piece = said[followed.chars :].encode()
                more = RunText(facts.run, facts.user, followed.size_bytes, piece)
                grown.append((followed, more, len(said)))
        if not grown:
            return
        kept = await self._broker.checkpoint([more for _, more, _ in grown])
        for (followed, more, chars), fits in zip(grown, kept, strict=True):
            if fits:
                followed.chars = chars
                followed.size_bytes += len(more.piece)
            else:  # lost, or kept twice: all of it, next time
                followed.chars = followed.size_bytes = 0
