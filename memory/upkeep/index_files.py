"""The files of one HNSW index of Chroma 1.5, read without Chroma.

A folder named by the id of the vector segment holds (learned from what the installed version
writes; numbers little-endian)::

    header.bin             100 bytes, see :class:`Header`
    data_level0.bin        elements of ``element_bytes``: u16 number of neighbours, u8 deleted,
                           u8, neighbours u32 x 32, the vector float32 x dim, u64 label
    length.bin             float32 an element: how long its vector was before it was normalised
    link_lists.bin         an element: u32 n, n bytes of links on the upper levels
    index_metadata.pickle  a dict: ``id_to_label``, ``total_elements_added`` and two that are empty

They are written in this order, in place and without fsync, which is why a kill can leave any
mixture. ``data_level0.bin`` and ``length.bin`` may be longer than the header counts.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

HEADER: Final = "header.bin"
ELEMENTS: Final = "data_level0.bin"
LENGTHS: Final = "length.bin"
LINKS: Final = "link_lists.bin"
LABELS: Final = "index_metadata.pickle"

FORMAT_VERSION: Final = 1
DELETED_OFFSET: Final = 2
MOST_LEVELS: Final = 64
LARGEST_ELEMENT_BYTES: Final = 1_000_000
"""More than any embedder's vector takes; a header that says more is not one."""

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]


class IndexFault(Exception):
    """What is wrong with an index's files; names the file, never an id."""


class Header(NamedTuple):
    """``header.bin``: of the ``elements`` some are deleted."""

    version: int
    level0_offset: int
    capacity: int
    elements: int
    element_bytes: int
    label_offset: int
    vector_offset: int
    top_level: int
    entry: int
    upper_neighbours: int
    level0_neighbours: int
    neighbours: int
    level_factor: float
    construction: int

    @property
    def dimension(self) -> int:
        return (self.label_offset - self.vector_offset) // 4

    @property
    def level_bytes(self) -> int:
        """An upper level's links of one element."""
        return 4 * (self.upper_neighbours + 1)


_HEADER: Final = struct.Struct("<iQQQQQQiIQQQdQ")


def read_header(folder: Path) -> Header:
    """The header of the index in *folder*.

    Raises:
        IndexFault: it is missing, short, or not consistent in itself.
    """
    raw = read_bytes(folder / HEADER)
    if len(raw) != _HEADER.size:
        raise IndexFault(f"{HEADER} has {len(raw)} bytes, not {_HEADER.size}")
    header = Header(*_HEADER.unpack(raw))
    sound = (
        header.version == FORMAT_VERSION
        and header.level0_offset == 0
        and header.elements <= header.capacity
        and header.vector_offset == 4 * (header.level0_neighbours + 1)
        and header.vector_offset < header.label_offset
        and (header.label_offset - header.vector_offset) % 4 == 0
        and header.element_bytes == header.label_offset + 8
        and header.element_bytes <= LARGEST_ELEMENT_BYTES
        and header.top_level < MOST_LEVELS
        and (header.elements == 0 or (header.top_level >= 0 and header.entry < header.elements))
    )
    if not sound:
        raise IndexFault(f"{HEADER} contradicts itself")
    return header


class IdLabels(NamedTuple):
    """``index_metadata.pickle``: the records that are in the index, each with its label."""

    added: int
    labels: Mapping[str, int]


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, strings and numbers; a pickle that asks for anything else is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} is not expected here")


def read_labels(folder: Path) -> IdLabels | None:
    """The ids and labels of the index in *folder*; ``None`` where it was never written.

    Nothing but plain values is read, whatever the file holds.

    Raises:
        IndexFault: it cannot be read, or is not what Chroma writes.
    """
    if not (folder / LABELS).exists():
        return None
    raw = read_bytes(folder / LABELS)
    try:
        content: Any = _PlainUnpickler(io.BytesIO(raw)).load()
    # A damaged pickle may end in any of these; MemoryError: a length of nonsense.
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError) as error:
        raise IndexFault(f"{LABELS} cannot be read: {type(error).__name__}") from error
    except (EOFError, LookupError, MemoryError, OverflowError, RecursionError) as error:
        raise IndexFault(f"{LABELS} cannot be read: {type(error).__name__}") from error
    labels = content.get("id_to_label") if isinstance(content, dict) else None
    added = content.get("total_elements_added") if isinstance(content, dict) else None
    if not isinstance(added, int) or not isinstance(labels, dict):
        raise IndexFault(f"{LABELS} lacks its parts")
    if not all(isinstance(key, str) and isinstance(labels[key], int) for key in labels):
        raise IndexFault(f"{LABELS} holds what is no id or label")
    return IdLabels(added, labels)


class Elements:
    """``data_level0.bin``, mapped: rows of bytes, one an element, in the order of insertion.

    *where* takes some of them, by position. All that is returned is a copy. *writable* is for
    :meth:`set_vectors`; call :meth:`flush` then.

    Raises:
        IndexFault: the file is missing or too short for the header.
    """

    def __init__(self, folder: Path, header: Header, *, writable: bool = False) -> None:
        self._header = header
        path = folder / ELEMENTS
        size = _size(path)
        if size < header.elements * header.element_bytes or size % header.element_bytes:
            raise IndexFault(f"{ELEMENTS} has {size} bytes: cut off, or of another index")
        shape = (header.elements, header.element_bytes)
        self._mapped: np.memmap[Any, np.dtype[np.uint8]] | None = None
        if header.elements:
            mode = "r+" if writable else "r"
            self._mapped = np.memmap(path, dtype=np.uint8, mode=mode, shape=shape)  # type: ignore[call-overload]  # the stubs want a literal
        self._rows: Bytes = np.empty(shape, np.uint8) if self._mapped is None else self._mapped

    def __len__(self) -> int:
        return self._header.elements

    def deleted(self, where: slice | Labels = slice(None)) -> Flags:
        """Which elements are marked deleted; bool, (n,)."""
        return (self._rows[where, DELETED_OFFSET] & 1).astype(np.bool_)

    def labels(self, where: slice | Labels = slice(None)) -> Labels:
        """uint64, (n,)."""
        return self._numbers(where, self._header.label_offset, self._header.element_bytes, "<u8")[
            :, 0
        ]

    def vectors(self, where: slice | Labels) -> Floats:
        """float32, (n, dim)."""
        return self._numbers(where, self._header.vector_offset, self._header.label_offset, "<f4")

    def links(self, where: slice | Labels) -> Words:
        """uint32, (n, 33): the first holds the number of neighbours and the deleted mark."""
        return self._numbers(where, 0, self._header.vector_offset, "<u4")

    def set_vectors(self, elements: Labels, vector: Floats) -> None:
        """Overwrite the vectors of these elements, by position, with *vector*; (dim,)."""
        if len(elements):
            place = slice(self._header.vector_offset, self._header.label_offset)
            self._rows[elements, place] = np.ascontiguousarray(vector, "<f4").view(np.uint8)

    def flush(self) -> None:
        """Bring what was written to the disk (msync)."""
        if self._mapped is not None:
            self._mapped.flush()

    def _numbers(self, where: slice | Labels, begin: int, end: int, kind: str) -> npt.NDArray[Any]:
        return np.ascontiguousarray(self._rows[where, begin:end]).view(kind)


def read_lengths(folder: Path, header: Header) -> Floats:
    """``length.bin``: float32, (elements,).

    Raises:
        IndexFault: the file is missing or too short for the header.
    """
    raw = read_bytes(folder / LENGTHS)
    if len(raw) < 4 * header.elements or len(raw) % 4:
        raise IndexFault(f"{LENGTHS} has {len(raw)} bytes: cut off")
    return np.frombuffer(raw, dtype="<f4", count=header.elements)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise IndexFault(f"{path.name} is missing or cannot be read") from error


def read_bytes(path: Path) -> bytes:
    """The whole of a file; raises ``IndexFault``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise IndexFault(f"{path.name} is missing or cannot be read") from error
