"""The journal's segments on disk; blocking, for one thread at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog

from memory.journal_records import SEGMENT_HEADER, Record, scan

log = structlog.get_logger(__name__)

SEGMENT_NAME: Final = "journal-{:08d}.log"
UNFINISHED_SUFFIX: Final = ".tmp"


class JournalFiles:
    """Segments in *folder* (mode 700, files 600), made with the first write.

    Written to is always a segment that this object began: behind a torn end nothing is ever
    appended. After an ``OSError`` the segment is not trusted any more, since what a failed sync
    left on disk cannot be known: :meth:`replace` begins anew, with all that is to be kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self.size_bytes = 0
        """Of the segment that is written to."""

    def read(self) -> list[Record]:
        """All records, oldest first; damage is logged and passed over.

        Raises:
            OSError: a segment could not be read.
        """
        records: list[Record] = []
        segments = self._segments()
        for segment in segments:
            found = scan(segment.read_bytes())
            records.extend(found.records)
            if found.torn and segment == segments[-1]:
                log.info("journal.end_torn", bytes=found.damaged_bytes)
            elif found.damaged_bytes:
                log.error("journal.damaged", segment=segment.name, bytes=found.damaged_bytes)
        return records

    def append(self, data: bytes, *, sync: bool) -> None:
        """Write *data* behind what stands; with *sync* it is on disk when this returns.

        Raises:
            OSError: it is not known what of it was written.
        """
        try:
            file = self._file
            if file is None:
                file = self._begin(self._next(), SEGMENT_HEADER)
                _sync(self._folder)
            _write(file, data)
            self.size_bytes += len(data)
            if sync:
                os.fsync(file)
        except OSError:
            self.close()
            raise

    def replace(self, data: bytes) -> None:
        """Make *data* all that the journal holds: no byte of what stood before is left in it.

        At every moment, a reader finds the old segments or the new one or both. Without *data*
        nothing is left.

        Raises:
            OSError: it is not known whether the old segments are gone; *data* may stand.
        """
        old = [*self._segments(), *self._folder.glob(f"*{UNFINISHED_SUFFIX}")]
        try:
            self.close()
            if data:
                segment = self._next()
                unfinished = segment.with_suffix(UNFINISHED_SUFFIX)
                unfinished.unlink(missing_ok=True)
                os.fsync(self._begin(unfinished, SEGMENT_HEADER + data))
                unfinished.rename(segment)
                _sync(self._folder)
            for segment in old:
                segment.unlink(missing_ok=True)
            if old:
                _sync(self._folder)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Write no more to the current segment; safe to repeat."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)
        self.size_bytes = 0

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("journal-*.log"))

    def _next(self) -> Path:
        segments = self._segments()
        number = int(segments[-1].stem.partition("-")[2]) + 1 if segments else 1
        return self._folder / SEGMENT_NAME.format(number)

    def _begin(self, path: Path, data: bytes) -> int:
        if not self._folder.exists():
            self._folder.mkdir(mode=0o700, parents=True)
            _sync(self._folder.parent)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        _write(self._file, data)
        self.size_bytes = len(data)
        return self._file


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync(folder: Path) -> None:
    """Bring on disk which files *folder* holds."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
