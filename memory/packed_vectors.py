"""Unit vectors in a quarter of their size, and their cosines with a question's."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from memory.messages import Vector

Packed = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]
Kind = TypeVar("Kind", bound=np.generic)

_MOST = 127
_ROWS_AT_ONCE = 1_024
"""Rows that are widened at a time: more would not stay in the processor's cache."""


class PackedVectors:
    """A vector per slot as int8 with one scale; zeros stay zeros.

    Cosines differ from those of float32 by .004 at most (384 dimensions).
    """

    def __init__(self) -> None:
        self._rows: Packed = np.zeros((0, 0), np.int8)
        self._scales: Floats = np.zeros(0, np.float32)

    @property
    def row_bytes(self) -> int:
        """RAM of one slot."""
        return int(self._rows.shape[1]) + 4

    def put(self, slot: int, vector: Vector) -> None:
        """Hold *vector* in *slot*, in place of what was there."""
        if slot >= len(self._rows):
            self._grow(slot + 1, len(vector))
        scale = float(np.abs(vector).max(initial=0.0)) / _MOST
        self._rows[slot] = np.rint(vector / scale) if scale else 0
        self._scales[slot] = scale

    def cosines(self, vector: Vector, slots: int) -> Floats:
        """float32, (slots,): of the first *slots* vectors with *vector*; 0 where there is none."""
        found = np.empty(slots, np.float32)
        wide = np.empty((min(slots, _ROWS_AT_ONCE), self._rows.shape[1]), np.float32)
        for start in range(0, slots, _ROWS_AT_ONCE):
            rows = self._rows[start : min(start + _ROWS_AT_ONCE, slots)]
            part = wide[: len(rows)]
            np.copyto(part, rows)
            # Row by row: the product with a whole matrix wakes OpenBLAS's threads, which wait
            # for each other; on busy processors that takes ten times as long (decision 0004).
            np.vecdot(part, vector, out=found[start : start + len(rows)])
        found *= self._scales[:slots]
        return found

    def dump(self, slots: npt.NDArray[np.int32]) -> tuple[Packed, Floats]:
        """Copies of the rows and scales of *slots*."""
        return self._rows[slots], self._scales[slots]

    def restore(self, rows: Packed, scales: Floats) -> None:
        """Hold what :meth:`dump` gave, from slot 0 on."""
        self._rows, self._scales = rows.copy(), scales.copy()

    def _grow(self, least: int, dimension: int) -> None:
        room = max(least, len(self._rows) * 9 // 8, 64)
        self._rows = extended(self._rows.reshape(-1, dimension), room)
        self._scales = extended(self._scales, room)


def extended(array: npt.NDArray[Kind], room: int) -> npt.NDArray[Kind]:
    """A copy of *array* with *room* rows; the new ones are zeros."""
    longer = np.zeros((room, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
