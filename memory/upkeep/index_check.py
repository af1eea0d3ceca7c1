"""Whether the files of an index can be used, and hold what they should.

Quick: everything that is small, and samples of what is large; 10 ms at 100,000 records. Deep:
every element, and every id against the database; what only a kill or a crash can have done.
"""

from __future__ import annotations

import sqlite3
from itertools import islice
from pathlib import Path
from typing import Final

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
    all_ids,
    logged_deletions,
    persisted_ids,
)

SAMPLES: Final = 256
ELEMENTS_PER_STEP: Final = 4_096
"""Some 7 MB at a time."""


def index_fault(
    folder: Path,
    connection: sqlite3.Connection,
    segment: VectorSegment,
    *,
    deep: bool,
    healed_up_to: str = END,
) -> str | None:
    """What is wrong with the index of *segment* under Chroma's *folder*, in one line without ids;
    ``None``: nothing. Chroma must not be running.

    Records behind the id *healed_up_to* may be missing: they are being embedded again.
    """
    try:
        labels = _check_files(folder / segment.id, segment, deep=deep)
        if labels is None or deep:
            _check_ids(connection, segment, labels, healed_up_to)
    except IndexFault as fault:
        return str(fault)
    return None


def _check_files(folder: Path, segment: VectorSegment, *, deep: bool) -> IdLabels | None:
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
    if deep:
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


def _check_ids(
    connection: sqlite3.Connection,
    segment: VectorSegment,
    labels: IdLabels | None,
    healed_up_to: str,
) -> None:
    """That the index holds the records it claims to hold, and none that are gone."""
    if labels is None:
        if any(islice(persisted_ids(connection, segment, healed_up_to), 1)):
            raise IndexFault("its files are missing")
        return
    indexed = labels.labels.keys()
    if not all(record in indexed for record in persisted_ids(connection, segment, healed_up_to)):
        raise IndexFault("records are missing in it")
    gone = indexed - set(all_ids(connection, segment))
    if gone and not gone <= set(logged_deletions(connection, segment)):
        raise IndexFault("it holds records that are gone")
