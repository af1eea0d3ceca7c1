"""Which collections' vectors are being made anew from their words: ``data_dir/healing.json``.

The file survives everything that may happen meanwhile. It names collections by Chroma's ids,
which say nothing of users.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from memory.upkeep.synced_files import sync, write_synced

log = structlog.get_logger(__name__)

FILE: Final = "healing.json"


class Rebuild(msgspec.Struct, kw_only=True):
    """One collection's rebuilding: all ids up to ``cursor``, ``done`` of ``total``, are done."""

    collection: str
    reason: str
    cursor: str = ""
    done: int = 0
    total: int = 0

    @property
    def remaining(self) -> int:
        return max(self.total - self.done, 0)


class Rebuilds:
    """What is to be rebuilt, in memory and in the file of *data_dir*.

    Reading it is for any thread, and so is each method as a whole.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        self._lock = threading.Lock()
        self._all: dict[str, Rebuild] = {}
        self.readable = True
        """Whether the file could be read; if it could not, everything is to be rebuilt."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=list[Rebuild])
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("healing_file.not_read", reason=type(error).__name__)
            self.readable = False
            return
        self._all = {rebuild.collection: rebuild for rebuild in found}

    def __iter__(self) -> Iterator[Rebuild]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, collection: str) -> Rebuild | None:
        return self._all.get(collection)

    def begin(self, rebuilds: list[Rebuild]) -> None:
        """Note *rebuilds*, each in the place of one for the same collection; on the disk when
        this returns.

        Raises:
            OSError: it could not be written.
        """
        with self._lock:
            self._all |= {rebuild.collection: rebuild for rebuild in rebuilds}
            self._write()

    def keep(self, rebuild: Rebuild) -> None:
        """Write down how far *rebuild* is; raises as ``begin``."""
        with self._lock:
            if self._all.get(rebuild.collection) is rebuild:
                self._write()

    def end(self, collections: set[str]) -> None:
        """Forget about *collections*; raises as ``begin``."""
        with self._lock:
            for collection in collections:
                self._all.pop(collection, None)
            self._write()

    def _write(self) -> None:
        """Replace the file, all or nothing."""
        if self._all:
            write_synced(self._path, msgspec.json.encode(list(self._all.values())))
        else:
            self._path.unlink(missing_ok=True)
            sync(self._path.parent)
        self.readable = True
