"""Which messages of a hot memory leave first."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

KEPT_SHARE = 8
"""Of what there is room for, one in so many may be kept because it was recalled, however old."""

Counts = npt.NDArray[np.uint8]
"""How often each slot was recalled."""


class HotOrder:
    """Slots, oldest message first; before all others those that are kept as they were recalled."""

    def __init__(self) -> None:
        self._line: deque[int] = deque()
        self._kept: deque[int] = deque()

    @property
    def kept(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def add(self, slot: int, *, older: bool) -> None:
        """*slot* is the newest, or *older* than all others."""
        if older:
            self._line.appendleft(slot)
        else:
            self._line.append(slot)

    def remove(self, slot: int) -> None:
        """*slot* leaves out of its turn."""
        (self._kept if slot in self._kept else self._line).remove(slot)

    def pop(self, recalled: Counts) -> int:
        """Take out the oldest; it is kept if it was recalled, in place of what was less often."""
        room = (len(self._line) + len(self._kept)) // KEPT_SHARE
        while room and self._line and recalled[self._line[0]]:
            self._kept.append(self._line.popleft())
            if len(self._kept) > room:
                least = min(self._kept, key=lambda slot: int(recalled[slot]))
                self._kept.remove(least)
                return least
        return (self._line or self._kept).popleft()

    def slots(self) -> npt.NDArray[np.int32]:
        """All of them in order, the ones that are kept first."""
        return np.array([*self._kept, *self._line], np.int32)

    def restore(self, kept: int, slots: int) -> None:
        """Hold the slots from 0 on, the first *kept* of which are kept."""
        self._kept.extend(range(kept))
        self._line.extend(range(kept, slots))
