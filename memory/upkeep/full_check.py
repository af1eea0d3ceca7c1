"""Everything about a store's files that can be told without Chroma running."""

from __future__ import annotations

from pathlib import Path

import msgspec

from memory.upkeep.index_check import index_fault
from memory.upkeep.rebuilds import Rebuilds
from memory.upkeep.record_check import RecordCheck
from memory.upkeep.schema_guard import check_database
from memory.upkeep.store_file import StoreFile
from memory.upkeep.terminal import Report
from memory.upkeep.unfinished import refuse_half_a_migration
from memory.upkeep.vector_segments import DATABASE, END, opened, vector_segments

DATABASE_SHARE = 0.3
RECORDS_SHARE = 0.4
INDEXES_SHARE = 0.3


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what is wrong with it, in lines.

    ``healing``: records whose vectors are being made anew; nothing is wrong with that.
    """

    collections: int
    records: int
    healing: int
    database_faults: list[str]
    record_faults: list[str]
    index_faults: list[str]

    @property
    def sound(self) -> bool:
        return not (self.database_faults or self.record_faults or self.index_faults)


def check_store(data_dir: Path, report: Report) -> Checked:
    """Check SQLite's pages and indexes, every record, every element of every index.

    Nothing is changed. Blocks, for minutes with a million records.

    Raises:
        UpkeepRefused: there is no store, or one of another version, or one in the middle of a
            migration, which holds messages twice until that is at its end.
    """
    database = data_dir / "chroma" / DATABASE
    report("looking at the database", 0.0)
    with StoreFile.opened(database, still=False) as store:
        database_faults = store.faults(thorough=True)
        if database_faults:
            return Checked(
                collections=0,
                records=0,
                healing=0,
                database_faults=database_faults,
                record_faults=[],
                index_faults=[],
            )
        check_database(database, within_s=0)
        collections = store.collections()
        for collection in collections:
            if collection.kind == "conversations":
                refuse_half_a_migration(collection.facts)
        check = RecordCheck(collections)
        total = max(sum(store.counts().values()), 1)
        for number, (segment, record) in enumerate(store.records()):
            check.take(segment, record)
            report("looking at the records", DATABASE_SHARE + RECORDS_SHARE * number / total)
    rebuilds = Rebuilds(data_dir)
    return Checked(
        collections=len(collections),
        records=check.records,
        healing=sum(rebuild.remaining for rebuild in rebuilds),
        database_faults=[],
        record_faults=list(check.faults()),
        index_faults=_index_faults(data_dir / "chroma", rebuilds, report),
    )


def _index_faults(chroma: Path, rebuilds: Rebuilds, report: Report) -> list[str]:
    faults = []
    with opened(chroma / DATABASE) as connection:
        segments = [it for it in vector_segments(connection) if it.kind]
        for number, segment in enumerate(segments):
            report("looking at the indexes", 1 - INDEXES_SHARE * (1 - number / len(segments)))
            rebuild = rebuilds.get(segment.collection)
            fault = index_fault(
                chroma,
                connection,
                segment,
                depth="records",
                healed_up_to=END if rebuild is None else rebuild.cursor,
            )
            if fault is not None:
                faults.append(f"the index of {segment.name}: {fault}")
    return faults
