"""The guard of a full disk: nothing is written that might not fit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from memory.errors import StoreUnavailable

NEEDED_BYTES: Final = 64 * 1024 * 1024
"""A write that breaks off for want of space damages Chroma's indexes; its log, its copies of
pages and the journal need some at the same time."""
KEPT_S: Final = 0.5


class FreeSpace:
    """Knows whether the disk of *folder* has room; looks at most every ``KEPT_S``."""

    def __init__(
        self,
        folder: Path,
        *,
        needed_bytes: int = NEEDED_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._needed_bytes = needed_bytes
        self._clock = clock
        self._looked_at = -KEPT_S
        self._free_bytes: int | None = None

    def check(self) -> None:
        """Return where there is room.

        Raises:
            StoreUnavailable: there is not; nothing was written.
        """
        now = self._clock()
        if now - self._looked_at >= KEPT_S:
            self._looked_at = now
            self._free_bytes = self._look()
        if self._free_bytes is not None and self._free_bytes < self._needed_bytes:
            raise StoreUnavailable(
                f"the disk is full: {self._free_bytes // 1_000_000} MB are free in "
                f"{self._folder}, {self._needed_bytes // 1_000_000} are needed"
            )

    def _look(self) -> int | None:
        """Bytes that this process may still write; ``None`` where nobody can tell."""
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize
