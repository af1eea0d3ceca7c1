"""The token marks of one user's messages in flat arrays, as late interaction reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from memory.late_interaction import SlotMarks
from memory.packed_vectors import extended
from memory.token_marks import PieceBits, PieceIds, TokenMarks

Numbers = npt.NDArray[np.int32]

_SLOT_BYTES = 8
_LEAST_ROOM = 512


class PackedMarks:
    """Marks per slot. What is given back leaves gaps, which are closed when half is gaps."""

    def __init__(self) -> None:
        self._ids: PieceIds = np.zeros(0, np.uint16)
        self._bits: PieceBits = np.zeros((0, 0), np.uint64)
        self._starts: Numbers = np.zeros(0, np.int32)
        self._counts: Numbers = np.zeros(0, np.int32)
        self._end = 0
        self._held = 0

    @property
    def size_bytes(self) -> int:
        """RAM in use; room for what may come does not count."""
        piece_bytes = 2 + 8 * int(self._bits.shape[1])
        return self._end * piece_bytes + len(self._starts) * _SLOT_BYTES

    def put(self, slot: int, marks: TokenMarks) -> None:
        """Hold the rarest of *marks* for *slot*, in place of what was there."""
        self.drop(slot)
        marks = marks.rarest()
        count = len(marks.ids)
        if not count:
            return
        if slot >= len(self._starts):
            room = max(slot + 1, len(self._starts) * 9 // 8, 64)
            self._starts = extended(self._starts, room)
            self._counts = extended(self._counts, room)
        if self._end + count > len(self._ids):
            self._make_room(count, marks.bits.shape[1])
        end = self._end + count
        self._ids[self._end : end] = marks.ids
        self._bits[self._end : end] = marks.bits
        self._starts[slot], self._counts[slot] = self._end, count
        self._end = end
        self._held += count

    def drop(self, slot: int) -> None:
        """Give back what *slot* has, if anything."""
        if slot < len(self._counts):
            self._held -= int(self._counts[slot])
            self._counts[slot] = 0

    def has(self, slot: int) -> bool:
        """Whether *slot* has any."""
        return slot < len(self._counts) and self._counts[slot] > 0

    def flat(self, slots: int) -> SlotMarks | None:
        """Those of the first *slots* slots; ``None`` if nothing has any."""
        if not self._held:
            return None
        if len(self._starts) < slots:
            self._starts = extended(self._starts, slots)
            self._counts = extended(self._counts, slots)
        return SlotMarks(
            self._ids[: self._end],
            self._bits[: self._end],
            self._starts[:slots],
            self._counts[:slots],
        )

    def dump(self, slots: Numbers) -> tuple[PieceIds, PieceBits, Numbers]:
        """Copies of the marks of *slots*, one after the other, and how many each has."""
        known = slots < len(self._counts)
        counts = np.zeros(len(slots), np.int32)
        counts[known] = self._counts[slots[known]]
        places = self._places(slots[counts > 0], counts[counts > 0])
        return self._ids[places], self._bits[places], counts

    def restore(self, ids: PieceIds, bits: PieceBits, counts: Numbers) -> None:
        """Hold what :meth:`dump` gave, from slot 0 on."""
        self._ids, self._bits, self._counts = ids.copy(), bits.copy(), counts.copy()
        self._starts = (np.cumsum(counts) - counts).astype(np.int32)
        self._end = self._held = len(ids)

    def _places(self, slots: Numbers, counts: Numbers) -> npt.NDArray[np.int64]:
        ends = np.cumsum(counts, dtype=np.int64)
        within = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
        return np.asarray(np.repeat(self._starts[slots], counts) + within, np.int64)

    def _make_room(self, count: int, words: int) -> None:
        if 2 * self._held < self._end:
            used = np.flatnonzero(self._counts).astype(np.int32)
            ids, bits, counts = self.dump(used)
            self._ids[: len(ids)], self._bits[: len(ids)] = ids, bits
            self._starts[used] = np.cumsum(counts) - counts
            self._end = self._held
        if self._end + count > len(self._ids):
            room = max(self._end + count, len(self._ids) * 9 // 8, _LEAST_ROOM)
            self._ids = extended(self._ids, room)
            self._bits = extended(self._bits.reshape(-1, words), room)
