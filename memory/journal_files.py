"""The journal's segments on disk; blocking, for one thread at a time."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import structlog

from memory.errors import one_line
from memory.journal_records import SEGMENT_HEADER, Record, scan

log = structlog.get_logger(__name__)

SEGMENT_NAME: Final = "journal-{:08d}.log"
SEGMENT_NUMBER: Final = re.compile(r"journal-(\d+)\.log")
UNFINISHED_SUFFIX: Final = ".tmp"


class JournalFiles:
    """Segments in *folder* (mode 700, files 600), made with the first write.

    Written to is always a segment that this object began: behind a torn end nothing is ever
    appended. After an ``OSError`` the segment is not trusted any more, since what a failed sync
    left on disk cannot be known: :meth:`replace` begins anew, with all that is to be kept. A
    segment that could not be read stays, for who can.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._unread: set[Path] = set()
        self.size_bytes = 0
        """Of the segment that is written to."""

    def read(self) -> list[Record]:
        """All records, oldest first; damage is logged and passed over, and so is a segment that
        cannot be read: :attr:`unread`.
        """
        records: list[Record] = []
        segments = self._segments()
        for segment in segments:
            try:
                content = segment.read_bytes()
            except OSError as fault:
                log.warning("journal.not_read", segment=segment.name, reason=one_line(fault))
                self._unread.add(segment)
                continue
            found = scan(content)
            records.extend(found.records)
            if found.torn and segment == segments[-1]:
                log.info("journal.end_torn", bytes=found.damaged_bytes)
            elif found.damaged_bytes:
                log.error("journal.damaged", segment=segment.name, bytes=found.damaged_bytes)
        return records

    @property
    def unread(self) -> list[Path]:
        """Segments that could not be read and are there still: the next process tries again."""
        return sorted(path for path in self._unread if path.exists())

    def append(self, data: bytes, *, sync: bool) -> None:
        """Write *data* behind what stands; with *sync* it is on disk when this returns.

        Raises:
            OSError: it is not known what of it was written.
        """
        try:
            file = self._file
            if file is None:
                file = self._begin(self._next(), SEGMENT_HEADER)
                sync_folder(self._folder)
            _write(file, data)
            self.size_bytes += len(data)
            if sync:
                os.fsync(file)
        except OSError:
            self.close()
            raise

    def replace(self, data: bytes) -> None:
        """Make *data* all that the journal holds: no byte of what stood before is left in it, but
        for what is :attr:`unread`.

        At every moment, a reader finds the old segments or the new one or both. Without *data*
        nothing is left.

        Raises:
            OSError: it is not known whether the old segments are gone; *data* may stand.
        """
        old = [path for path in self._segments() if path not in self._unread]
        old += self._folder.glob(f"*{UNFINISHED_SUFFIX}")
        try:
            self.close()
            if data:
                segment = self._next()
                unfinished = segment.with_suffix(UNFINISHED_SUFFIX)
                unfinished.unlink(missing_ok=True)
                os.fsync(self._begin(unfinished, SEGMENT_HEADER + data))
                unfinished.rename(segment)
                sync_folder(self._folder)
            for segment in old:
                segment.unlink(missing_ok=True)
            if old:
                sync_folder(self._folder)
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

    @property
    def last_number(self) -> int:
        """Of the newest segment; 0 where there is none."""
        found = (SEGMENT_NUMBER.fullmatch(path.name) for path in self._segments())
        return max((int(it[1]) for it in found if it), default=0)

    def _next(self) -> Path:
        return self._folder / SEGMENT_NAME.format(self.last_number + 1)

    def _begin(self, path: Path, data: bytes) -> int:
        if not self._folder.exists():
            self._folder.mkdir(mode=0o700, parents=True)
            sync_folder(self._folder.parent)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        _write(self._file, data)
        self.size_bytes = len(data)
        return self._file


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def sync_folder(folder: Path) -> None:
    """Bring on disk which files *folder* holds."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
