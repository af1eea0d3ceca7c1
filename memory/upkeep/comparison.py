"""Whether what stands in a backup stands in a store still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from memory.errors import UpkeepRefused
from memory.messages import UserId
from memory.placement import Placement
from memory.records import Record
from memory.upkeep.layouts import placement_of, prefix_of
from memory.upkeep.store_file import StoredCollection, StoreFile
from memory.upkeep.terminal import Report

EXAMPLES: Final = 20
COMPARED: Final = ("user_id", "conversation_id", "type", "parent", "depth", "timestamp")
"""What a message keeps for ever, beside its words."""

REPORT_EVERY: Final = 1_000

Gone = Callable[[UserId, str], bool]
"""Whether a user's message of that id was deleted on purpose."""


class Differences(msgspec.Struct, kw_only=True):
    """What became of a backup's messages in a store; ``examples`` are ids, with what is wrong.

    ``compared`` are all, ``deleted`` those that were deleted on purpose since, ``missing`` and
    ``changed`` the losses.
    """

    compared: int = 0
    deleted: int = 0
    missing: int = 0
    changed: int = 0
    examples: list[str] = []

    @property
    def losses(self) -> int:
        return self.missing + self.changed


class _Shelves:
    """Where a store keeps each user's messages."""

    def __init__(self, store: StoreFile) -> None:
        collections = store.collections()
        directory = directory_of(collections)
        self._placement: Placement = placement_of(directory.layout, prefix_of(directory.name))
        self._segments = {it.name: it.segment for it in collections if it.kind == "messages"}

    def segment(self, user: UserId) -> str | None:
        return self._segments.get(self._placement.shelf(user).name)


def directory_of(collections: list[StoredCollection]) -> StoredCollection:
    """The collection of conversations, which exists wherever anything does.

    Raises:
        UpkeepRefused: there is none, or more than one.
    """
    found = [it for it in collections if it.kind == "conversations"]
    if len(found) != 1:
        raise UpkeepRefused(
            f"the database holds {len(found)} collections of conversations instead of one: "
            "it is not one Tandem's store"
        )
    return found[0]


def compare(backup: StoreFile, store: StoreFile, gone: Gone, report: Report) -> Differences:
    """Look every message of *backup* up in *store*, whatever the placement of each is.

    Few records are in memory at a time. Conversations are left out: their titles change.
    """
    messages = {it.segment for it in backup.collections() if it.kind == "messages"}
    total = sum(count for segment, count in backup.counts().items() if segment in messages)
    found = Differences()
    if not total:
        return found
    shelves = _Shelves(store)
    for segment, record in backup.records():
        if segment not in messages:
            continue
        found.compared += 1
        _compare(record, store, shelves, gone, found)
        if found.compared % REPORT_EVERY == 0:
            report("comparing", found.compared / total)
    return found


def _compare(
    record: Record, store: StoreFile, shelves: _Shelves, gone: Gone, found: Differences
) -> None:
    user = UserId(str(record.metadata.get("user_id", "")))
    segment = shelves.segment(user)
    other = None if segment is None else store.record(segment, record.id)
    wrong = None if other is None else _changed(record, other)
    if other is not None and wrong is None:
        return
    if gone(user, record.id) or (other is not None and other.metadata.get("status") == "deleted"):
        found.deleted += 1
        return
    if other is None:
        found.missing += 1
    else:
        found.changed += 1
    if len(found.examples) < EXAMPLES:
        found.examples.append(f"{record.id}: {'missing' if wrong is None else wrong + ' differs'}")


def _changed(record: Record, other: Record) -> str | None:
    if record.document != other.document:
        return "text"
    return next(
        (key for key in COMPARED if record.metadata.get(key) != other.metadata.get(key)), None
    )
