"""Looking after Chroma's folder while Chroma does not run: what is damaged is set aside.

An index that cannot be used, or was made by another embedder, is removed as a whole: nothing of
it is worth keeping, and what is kept somewhere an erasure would not find. Its collection is
noted first, to be healed from its words (:mod:`memory.upkeep.healing`). Everything here may be
cut off anywhere and done again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from memory.errors import UpkeepRefused
from memory.upkeep.embedding_change import EmbeddingFacts, adopt, is_of_another
from memory.upkeep.index_check import index_fault
from memory.upkeep.rebuilds import Rebuild, Rebuilds
from memory.upkeep.schema_guard import QUICK_CHECK_S, check_database
from memory.upkeep.synced_files import sync
from memory.upkeep.vector_scrubbing import remove_orphans
from memory.upkeep.vector_segments import (
    DATABASE,
    END,
    VectorSegment,
    count_after,
    opened,
    vector_segments,
)

log = structlog.get_logger(__name__)

EMBEDDER_CHANGED: Final = "the embedder has changed"

Stamp = tuple[tuple[str, int, int], ...]
"""Names, sizes and times of an index's files: while it stays the same, so do they."""


class Finding(NamedTuple):
    """An index that cannot be used, and why."""

    segment: VectorSegment
    reason: str


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for.

    ``deep``: every index as closely as can be. ``suspects``: these, by collection. ``condemned``:
    these are not even looked at. ``killed``: Chroma may have been writing when it ended, so that
    the elements of indexes which have changed since they were last found sound are looked at.
    """

    embedding: EmbeddingFacts | None = None
    deep: bool = False
    suspects: frozenset[str] = frozenset()
    condemned: frozenset[str] = frozenset()
    killed: bool = False
    pages_within_s: float = QUICK_CHECK_S


class Inspector:
    """Inspects *chroma*, Chroma's folder, again and again; what was sound and is as it was then is
    not looked at again.
    """

    def __init__(self, chroma: Path, rebuilds: Rebuilds) -> None:
        self._chroma = chroma
        self._database = chroma / DATABASE
        self._rebuilds = rebuilds
        self._sound: dict[str, Stamp] = {}
        self.segments: Mapping[str, VectorSegment] = {}
        """Of our collections, by their ids, as of the last inspection."""

    def inspect(self, inspection: Inspection) -> list[Finding]:
        """Set aside what cannot be used, and note it as a rebuild; returns what that was.

        Raises:
            UpkeepRefused: Chroma must not be started on this folder; says what to do.
        """
        if not self._database.exists():
            return []
        check_database(self._database, within_s=inspection.pages_within_s)
        try:
            with opened(self._database, writable=True) as connection:
                return self._inspect(connection, inspection)
        except OSError as error:
            raise UpkeepRefused(f"{self._chroma} cannot be mended: {error.strerror}") from error

    def _inspect(self, connection: sqlite3.Connection, inspection: Inspection) -> list[Finding]:
        ours = [segment for segment in vector_segments(connection) if segment.kind]
        self.segments = {segment.collection: segment for segment in ours}
        if gone := {rebuild.collection for rebuild in self._rebuilds} - self.segments.keys():
            self._rebuilds.end(gone)
        changed = [it for it in ours if is_of_another(it, inspection.embedding)]
        found = [Finding(it, EMBEDDER_CHANGED) for it in changed if it.kind == "messages"]
        done = {finding.segment.id for finding in found}
        found += [
            Finding(segment, reason)
            for segment in ours
            if segment.id not in done and (reason := self._fault(connection, segment, inspection))
        ]
        self._note(connection, found)
        for finding in found:
            self._set_aside(finding)
        if inspection.embedding is not None and changed:
            adopt(connection, changed, inspection.embedding)
        if orphans := remove_orphans(self._chroma, connection):
            log.info("index.orphans_removed", indexes=orphans)
        return found

    def _fault(
        self, connection: sqlite3.Connection, segment: VectorSegment, inspection: Inspection
    ) -> str | None:
        if segment.collection in inspection.condemned:
            return "it ended Chroma"
        if not self._rebuilds.readable and segment.kind == "messages":
            return "how far its healing was is not known"
        stamp = _stamp(self._chroma / segment.id)
        close = inspection.deep or segment.collection in inspection.suspects
        if not close and self._sound.get(segment.id) == stamp:
            return None
        rebuild = self._rebuilds.get(segment.collection)
        fault = index_fault(
            self._chroma,
            connection,
            segment,
            depth="records" if close else "elements" if inspection.killed else "quick",
            healed_up_to=END if rebuild is None else rebuild.cursor,
        )
        if fault is None:
            self._sound[segment.id] = stamp
        return fault

    def _note(self, connection: sqlite3.Connection, found: Collection[Finding]) -> None:
        if found or not self._rebuilds.readable:
            self._rebuilds.begin(
                [
                    Rebuild(
                        collection=segment.collection,
                        reason=reason,
                        total=count_after(connection, segment, ""),
                    )
                    for segment, reason in found
                ]
            )

    def _set_aside(self, finding: Finding) -> None:
        segment, reason = finding
        log.error("index.set_aside", collection=segment.collection, reason=reason)
        self._sound.pop(segment.id, None)
        remove_index(self._chroma, segment)


def remove_index(chroma: Path, segment: VectorSegment) -> None:
    """Remove the files of an index; Chroma makes it anew, from its log and what is upserted."""
    folder = chroma / segment.id
    if folder.exists():
        shutil.rmtree(folder)
        sync(chroma)


def _stamp(folder: Path) -> Stamp:
    return tuple(sorted(_files(folder)))


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    try:
        for entry in os.scandir(folder):
            found = entry.stat()
            yield entry.name, found.st_size, found.st_mtime_ns
    except FileNotFoundError:
        return
