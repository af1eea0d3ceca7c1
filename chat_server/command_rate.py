"""How many commands one connection may give: a bucket that fills while it is silent."""

from __future__ import annotations

from typing import Final

BURST: Final = 120
PER_S: Final = 20.0
DROPPED_DRAFT: Final = 0.2
"""What a draft costs that came too soon after others: a client that sends one for every key is
borne with, a flood is not."""


class CommandRate:
    """Spends commands; ``BURST`` at once, ``PER_S`` in the long run. Times are monotonic."""

    __slots__ = ("_at_s", "_left")

    def __init__(self, now_s: float) -> None:
        self._left = float(BURST)
        self._at_s = now_s

    def spend(self, now_s: float, cost: float = 1.0) -> bool:
        """Take one command; ``False``: there is none left."""
        self._fill(now_s)
        if self._left < cost:
            return False
        self._left -= cost
        return True

    def full_in_s(self, now_s: float) -> float:
        """The time after which ``BURST`` may be spent again."""
        self._fill(now_s)
        return (BURST - self._left) / PER_S

    def _fill(self, now_s: float) -> None:
        self._left = min(float(BURST), self._left + (now_s - self._at_s) * PER_S)
        self._at_s = now_s
