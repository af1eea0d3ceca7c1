"""Whether the files of an index can be used, and hold what they should.

``quick``: everything that is small, and samples of what is large. ``elements``: every element as
well, which a kill may have left half written. ``records``: every id against the database too; an
end of the whole machine may have kept the database and lost what was written to the index.
"""

from __future__ import annotations

import sqlite3
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import numpy as np

from memory.upkeep.index_files import (
    Elements,
    Floats,
    Header,
    IdLabels,
    IndexFault,
    Labels,
    read_header,
    read_labels,
    read_lengths,
)
from memory.upkeep.index_links import check_level0_links, check_upper_links
from memory.upkeep.vector_segments import (
    END,
    VectorSegment,
    ids_and_places,
    logged_deletions,
    persisted_ids,
    persisted_up_to,
)

Depth = Literal["quick", "elements", "records"]

SAMPLES: Final = 256
ELEMENTS_PER_STEP: Final = 4_096
"""Some 7 MB at a time."""


def index_fault(
    folder: Path,
    connection: sqlite3.Connection,
    segment: VectorSegment,
    *,
    depth: Depth,
    healed_up_to: str = END,
) -> str | None:
    """What is wrong with the index of *segment* under Chroma's *folder*, in one line without ids;
    ``None``: nothing. Chroma must not be running.

    Records behind the id *healed_up_to* may be missing: they are being embedded again.
    """
    try:
        labels = _check_files(folder / segment.id, segment, every=depth != "quick")
        if labels is None:
            if any(islice(persisted_ids(connection, segment, healed_up_to), 1)):
                raise IndexFault("its files are missing")
        elif depth == "records":
            _check_records(connection, segment, labels, healed_up_to)
    except IndexFault as fault:
        return str(fault)
    return None


def _check_files(folder: Path, segment: VectorSegment, *, every: bool) -> IdLabels | None:
    """Raises ``IndexFault``; returns what is in the index, ``None`` if it was never written."""
    if not folder.exists():
        return None
    header = read_header(folder)
    labels = read_labels(folder)
    if segment.dimension not in {None, header.dimension}:
        raise IndexFault(f"its vectors have {header.dimension} numbers")
    elements = Elements(folder, header)
    lengths = read_lengths(folder, header)
    check_upper_links(folder, header)
    if labels is None:
        if header.elements:
            raise IndexFault("the list of its ids is missing")
        return None
    if labels.added != header.elements or len(labels.labels) > header.elements:
        raise IndexFault(
            f"its header counts {header.elements} elements, its list of ids {labels.added}"
        )
    known = np.fromiter(labels.labels.values(), np.uint64, len(labels.labels))
    if every:
        _check_all(elements, header, known, lengths)
    else:
        sample = np.unique(np.linspace(0, len(elements) - 1, SAMPLES).astype(np.uint64))
        _check_some(elements, header, sample[: len(elements)], known, lengths)
    return labels


def _check_all(elements: Elements, header: Header, known: Labels, lengths: Floats) -> None:
    """Every element, and that those not deleted are exactly the known ones."""
    for start in range(0, len(elements), ELEMENTS_PER_STEP):
        stop = min(start + ELEMENTS_PER_STEP, len(elements))
        _check_some(elements, header, np.arange(start, stop, dtype=np.uint64), None, lengths)
    present = np.sort(elements.labels()[~elements.deleted()])
    if not np.array_equal(present, np.sort(known)):
        raise IndexFault("its list of ids is not that of its elements")


def _check_some(
    elements: Elements, header: Header, which: Labels, known: Labels | None, lengths: Floats
) -> None:
    """The elements at the positions *which*: labels that are *known*, vectors, links."""
    if not len(which):
        return
    span: slice | Labels = which
    if len(which) == int(which[-1]) - int(which[0]) + 1:
        span = slice(int(which[0]), int(which[-1]) + 1)  # a slice is read without a copy
    used = ~elements.deleted(span)
    if known is not None and not np.isin(elements.labels(span)[used], known).all():
        raise IndexFault("its list of ids is not that of its elements")
    vectors = elements.vectors(span)[used]
    squares = np.einsum("ij,ij->i", vectors, vectors)
    if not (np.isfinite(squares) & (squares > 0)).all():
        raise IndexFault("some of its vectors are no vectors")
    if not (np.isfinite(lengths[which][used]) & (lengths[which][used] > 0)).all():
        raise IndexFault("some of its vectors have no length")
    check_level0_links(elements.links(span), header.elements)


def _check_records(
    connection: sqlite3.Connection,
    segment: VectorSegment,
    labels: IdLabels,
    healed_up_to: str,
) -> None:
    """That the index holds the records it claims to hold, and none that are gone."""
    indexed = labels.labels.keys()
    persisted = persisted_up_to(connection, segment) or 0
    found = 0
    for record, place in ids_and_places(connection, segment):
        if record in indexed:
            found += 1
        elif place <= persisted and record <= healed_up_to:
            raise IndexFault("records are missing in it")
    if found < len(indexed):
        gone = indexed - {record for record, _ in ids_and_places(connection, segment)}
        if not gone <= set(logged_deletions(connection, segment)):
            raise IndexFault("it holds records that are gone")
