"""Which parts of the server answer: ``/readyz``, and the line that says "ready"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import anyio
import structlog

from memory.errors import MemoryFault

log = structlog.get_logger(__name__)

CHECK_EVERY_S: Final = 2.0
CHECK_UNREADY_EVERY_S: Final = 0.05

PartState = Literal["ok", "starting", "lost"]


@dataclass(slots=True)
class Part:
    """One thing that the server needs.

    ``essential``: without it messages cannot be stored. Another part may be lost later and
    costs comfort only, but the server does not begin without it.
    """

    name: str
    check: Callable[[], Awaitable[None]]
    essential: bool
    state: PartState = "starting"
    reason: str = ""


@dataclass(slots=True)
class Readiness:
    """Asks the parts again and again; ``ready`` is what ``/readyz`` says."""

    parts: list[Part]
    draining: bool = False
    became_ready: anyio.Event = field(default_factory=anyio.Event)

    @property
    def ready(self) -> bool:
        """Whether messages can be taken: all parts have answered, the essential ones still do."""
        return not self.draining and not any(
            part.state == "starting" or (part.essential and part.state == "lost")
            for part in self.parts
        )

    def report(self) -> dict[str, object]:
        """The body of ``/readyz``."""
        return {
            "ready": self.ready,
            "draining": self.draining,
            "parts": {
                part.name: {"state": part.state, "reason": part.reason}
                if part.reason
                else {"state": part.state}
                for part in self.parts
            },
        }

    async def watch(self, part: Part) -> None:
        """Ask *part* for ever: often until it answers, every ``CHECK_EVERY_S`` then."""
        while True:
            await self._check(part)
            if self.ready and not self.became_ready.is_set():
                self.became_ready.set()
            await anyio.sleep(CHECK_EVERY_S if part.state == "ok" else self._pause_s(part))

    @staticmethod
    def _pause_s(part: Part) -> float:
        return CHECK_UNREADY_EVERY_S if part.state == "starting" else CHECK_UNREADY_EVERY_S * 4

    async def _check(self, part: Part) -> None:
        before = part.state, part.reason
        try:
            await part.check()
        except MemoryFault as fault:
            part.reason = str(fault)
            if part.state == "ok":
                part.state = "lost"
        else:
            part.state, part.reason = "ok", ""
        if (part.state, part.reason) == before:
            return
        if part.state == "ok":
            log.info("part.ready", part=part.name)
        else:
            log.warning("part.not_ready", part=part.name, state=part.state, reason=part.reason)
