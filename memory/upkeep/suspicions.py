"""Which indexes are to be looked at, or given up, from what was seen of Chroma; pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from memory.chroma_client import Damage

CONFIRMED_AFTER_S: Final = 0.2
"""Two signs so far apart are not one moment between two steps of a write."""
SIGN_KEPT_S: Final = 120.0
AGAIN_WITHIN_S: Final = 60.0
"""What is reported so soon after it was found sound is given up: the files do not show it."""
CRASH_AGAIN_WITHIN_S: Final = 30.0
STUCK_FOR_S: Final = 2.0
STUCK_WITHIN_S: Final = 15.0
"""Signs of a stuck Chroma that span the former, within the latter, are no passing trouble."""


class Verdict(NamedTuple):
    """``deep``: all indexes are to be looked at closely; else the ``suspects``; the ``condemned``
    are to be set aside as they are.
    """

    deep: bool
    suspects: frozenset[str]
    condemned: frozenset[str]


class Suspicions:
    """Collects reports between two starts of Chroma."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._signs: dict[str, float] = {}
        self._suspects: set[str] = set()
        self._looked_at: dict[str, float] = {}
        self._condemned: set[str] = set()
        self._crashed_at: float | None = None
        self._deep = False
        self._stuck_at: float | None = None
        self._stuck = False

    @property
    def pressing(self) -> bool:
        """Whether Chroma should be stopped now, to be looked after."""
        return self._stuck or bool(self._suspects)

    @property
    def reason(self) -> str:
        """Why it should be."""
        return "an index seems damaged" if self._suspects else "its database is stuck"

    def report(self, collection: str, damage: Damage) -> None:
        """A request about *collection* failed as with a damaged index, or a stuck Chroma."""
        now = self._clock()
        if damage == "stuck":
            if self._stuck_at is None or now - self._stuck_at > STUCK_WITHIN_S:
                self._stuck_at = now
            self._stuck |= now - self._stuck_at >= STUCK_FOR_S
        elif damage == "certain" or self._is_confirmed(collection, now):
            self._suspects.add(collection)

    def crashed(self, asked: Collection[str]) -> None:
        """Chroma has ended by a fault of its own, while or after it was *asked* about these."""
        now = self._clock()
        if self._crashed_at is not None and now - self._crashed_at < CRASH_AGAIN_WITHIN_S:
            self._condemned |= set(asked)
        self._crashed_at = now
        self._deep = True

    def verdict(self) -> Verdict:
        """What is to be done before the next start."""
        now = self._clock()
        again = {
            collection
            for collection in self._suspects
            if now - self._looked_at.get(collection, -AGAIN_WITHIN_S) < AGAIN_WITHIN_S
        }
        return Verdict(self._deep, frozenset(self._suspects), frozenset(self._condemned | again))

    def settle(self, verdict: Verdict) -> None:
        """*verdict* was carried out, as the last thing before Chroma starts."""
        now = self._clock()
        recent = {key: at for key, at in self._looked_at.items() if now - at < AGAIN_WITHIN_S}
        self._looked_at = recent | dict.fromkeys(verdict.suspects, now)
        self._suspects -= verdict.suspects
        self._condemned -= verdict.condemned
        self._signs.clear()
        self._deep = self._stuck = False
        self._stuck_at = None

    def _is_confirmed(self, collection: str, now: float) -> bool:
        first = self._signs.get(collection)
        if first is None or now - first > SIGN_KEPT_S:
            self._signs[collection] = now
            return False
        return now - first >= CONFIRMED_AFTER_S
