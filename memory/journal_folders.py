"""The journals of one data folder: one for each process that makes replies."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from memory.errors import JournalFailed, one_line
from memory.journal_files import SEGMENT_NAME, JournalFiles, sync_folder

log = structlog.get_logger(__name__)

JOURNAL: Final = "journal"
"""The name of the first one's folder; the others' have the number of their slot behind it."""


def journal_folder(data_dir: Path, slot: int = 0) -> Path:
    """Where the process in *slot* keeps its journal."""
    return data_dir / (f"{JOURNAL}-{slot}" if slot else JOURNAL)


def journal_folders(data_dir: Path) -> list[Path]:
    """All journals that there are in *data_dir*, whoever kept them."""
    first = data_dir / JOURNAL
    others = sorted(path for path in data_dir.glob(f"{JOURNAL}-*") if path.is_dir())
    return [first, *others] if first.is_dir() else others


def adopt_journals(data_dir: Path, slots: int) -> None:
    """Put what stands in journals of slots from *slots* on before that of the first, so that it
    is stored although there are fewer processes now. Nobody uses any of them; blocks.

    Killed at any moment, each segment stands in one folder or the other.

    Raises:
        JournalFailed: a folder could not be changed; nothing is lost.
    """
    first = journal_folder(data_dir)
    kept = {journal_folder(data_dir, slot) for slot in range(slots)}
    try:
        for folder in journal_folders(data_dir):
            if folder not in kept:
                _move_segments(folder, first)
    except OSError as fault:
        raise JournalFailed(one_line(fault)) from fault


def _move_segments(folder: Path, target: Path) -> None:
    segments = sorted(folder.glob("journal-*.log"))
    if segments:
        target.mkdir(mode=0o700, exist_ok=True)
        sync_folder(target.parent)
        number = JournalFiles(target).last_number
        for step, segment in enumerate(segments, 1):
            segment.rename(target / SEGMENT_NAME.format(number + step))
        sync_folder(target)
        log.info("journal.adopted", folder=folder.name, segments=len(segments))
    for unfinished in folder.glob("*"):
        unfinished.unlink()
    folder.rmdir()
    sync_folder(folder.parent)
