"""Which parts of the server answer: ``/readyz``, and the line that says "ready"."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import anyio
import structlog

from memory.errors import MemoryFault

log = structlog.get_logger(__name__)

CHECK_EVERY_S: Final = 2.0
CHECK_STARTING_EVERY_S: Final = 0.05
CHECK_LOST_EVERY_S: Final = 0.2
QUIET_START_S: Final = 1.0
"""A part that is still starting is no news before that."""

PartState = Literal["ok", "starting", "lost"]

PAUSES_S: Final[dict[PartState, float]] = {
    "ok": CHECK_EVERY_S,
    "starting": CHECK_STARTING_EVERY_S,
    "lost": CHECK_LOST_EVERY_S,
}


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
    since: float = field(default_factory=time.monotonic)
    told: str = ""
    """The reason that the log has."""
    healing: Callable[[], Mapping[str, int] | None] = lambda: None
    """How far it is with mending itself, which costs nobody anything but time; ``None``: sound."""


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

    def report(self, *, reasons: bool) -> dict[str, object]:
        """The body of ``/readyz``, with *reasons* for those who may know folders and addresses."""
        return {
            "ready": self.ready,
            "draining": self.draining,
            "parts": {part.name: self._described(part, reasons=reasons) for part in self.parts},
        }

    @staticmethod
    def _described(part: Part, *, reasons: bool) -> dict[str, object]:
        described: dict[str, object] = {"state": part.state}
        if part.reason and reasons:
            described["reason"] = part.reason
        if healing := part.healing():
            described["healing"] = healing
        return described

    async def watch(self, part: Part) -> None:
        """Ask *part* for ever: often until it answers, every ``CHECK_EVERY_S`` then."""
        while True:
            await self._check(part)
            if self.ready and not self.became_ready.is_set():
                self.became_ready.set()
            await anyio.sleep(PAUSES_S[part.state])

    async def _check(self, part: Part) -> None:
        try:
            await part.check()
        except MemoryFault as fault:
            part.reason = str(fault)
            if part.state == "ok":
                part.state, part.since = "lost", time.monotonic()
            self._tell_unready(part)
        else:
            if part.state != "ok":
                log.info("part.ready", part=part.name)
            part.state, part.reason, part.told = "ok", "", ""

    @staticmethod
    def _tell_unready(part: Part) -> None:
        """Say why, once for each reason."""
        waiting_s = time.monotonic() - part.since
        if part.reason != part.told and (part.state == "lost" or waiting_s > QUIET_START_S):
            part.told = part.reason
            log.warning("part.not_ready", part=part.name, state=part.state, reason=part.reason)
