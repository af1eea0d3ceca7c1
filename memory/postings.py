"""Which slots have a term: a small open part in a dictionary, the rest in sorted arrays."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Slots = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]

LEAST_OPEN_TERMS: Final = 300
OPEN_SHARE: Final = 6
"""The open part is closed once it has a sixth as many terms as the rest."""
HURRIED_TERMS: Final = 2_000
HURRIED_SHARE: Final = 2
_OPEN_TERM_BYTES: Final = 200
"""The dictionary entry of a term's hash, and its empty posting."""
_OPEN_BYTES: Final = 5
"""An entry of an open posting, with what arrays allot ahead."""
_GONE: Final = -1
_HASHES_KEPT: Final = 20_000
"""Some 3 MB: most terms of a question, and of what is said, were said before."""


class ClosedPostings(NamedTuple):
    """The term with ``hashes[i]`` (64 bits, ascending) stands in the slots
    ``occurrences[ends[i - 1]:ends[i]]``, once for each time it was said; -1 is none.
    """

    hashes: Hashes
    ends: Slots
    occurrences: Slots


class Postings:
    """Slots of each term. A closed posting takes 12 bytes and 4 for each time; a dictionary of
    Python's takes twenty times that for the many terms that were said once.

    Two terms with one hash would be taken for one: among a million terms, once in 10^7 users.
    """

    def __init__(self) -> None:
        self._open: dict[int, array[int]] = {}
        self._closed = ClosedPostings(
            np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros(0, np.int32)
        )
        self._open_bytes = 0
        self._has_gone = False

    @property
    def size_bytes(self) -> int:
        """RAM in use, estimated."""
        hashes, ends, occurrences = self._closed
        return self._open_bytes + hashes.nbytes + ends.nbytes + occurrences.nbytes

    def add(self, terms: Iterable[str], slot: int) -> None:
        """*slot* has *terms*, each once more for each time that it is among them."""
        opened, grown = self._open, 0
        for term in terms:
            key = _hash(term)
            posting = opened.get(key)
            if posting is None:
                posting = opened[key] = array("i")
                grown += _OPEN_TERM_BYTES
            posting.append(slot)
            grown += _OPEN_BYTES
        self._open_bytes += grown

    def tidy(self, *, hurried: bool = False) -> None:
        """Close the open part if it has grown too large, *hurried* later: closing takes as long as
        there are terms in all.
        """
        least, share = (HURRIED_TERMS, HURRIED_SHARE) if hurried else (LEAST_OPEN_TERMS, OPEN_SHARE)
        if len(self._open) > max(least, len(self._closed.hashes) // share):
            self._closed = self._all_closed()
            self._open.clear()
            self._open_bytes = 0
            self._has_gone = False

    def remove(self, term: str, slot: int) -> None:
        """*slot* has *term* once less.

        Raises:
            KeyError: it does not have it.
        """
        key = _hash(term)
        posting = self._open.get(key)
        if posting is not None and slot in posting:
            posting.remove(slot)
            self._open_bytes -= _OPEN_BYTES
            if not posting:
                del self._open[key]
                self._open_bytes -= _OPEN_TERM_BYTES
            return
        (closed,) = self._closed_postings([key])
        places = np.flatnonzero(closed == slot)
        if not len(places):
            raise KeyError(slot)
        closed[places[0]] = _GONE
        self._has_gone = True

    def get(self, term: str) -> Slots:
        """The slots with *term*, once for each time; none if nothing has it."""
        return self.all([term])[0]

    def all(self, terms: Sequence[str]) -> list[Slots]:
        """The same of several *terms*; not to be written to."""
        keys = [_hash(term) for term in terms]
        found: list[Slots] = []
        for key, posting in zip(keys, self._closed_postings(keys), strict=True):
            kept = posting[posting != _GONE] if self._has_gone else posting
            opened = self._open.get(key)
            if opened is not None:
                kept = np.concatenate((kept, np.array(opened, np.int32)))
            found.append(kept)
        return found

    def dump(self, places: Slots) -> ClosedPostings:
        """A copy of everything, each slot *s* called ``places[s]``."""
        closed = self._all_closed()
        return closed._replace(occurrences=places[closed.occurrences])

    def restore(self, closed: ClosedPostings) -> None:
        """Hold what :meth:`dump` gave."""
        hashes, ends, occurrences = closed
        self._closed = ClosedPostings(hashes.copy(), ends.copy(), occurrences.copy())
        self._has_gone = bool((occurrences == _GONE).any())

    def _closed_postings(self, keys: Sequence[int]) -> list[Slots]:
        """What is closed of each, as it stands."""
        hashes, ends, occurrences = self._closed
        found: list[Slots] = []
        places = np.searchsorted(hashes, np.array(keys, np.uint64)).tolist()
        for key, place in zip(keys, places, strict=True):
            if place == len(hashes) or int(hashes[place]) != key:
                found.append(occurrences[:0])
            else:
                start = int(ends[place - 1]) if place else 0
                found.append(occurrences[start : int(ends[place])])
        return found

    def _all_closed(self) -> ClosedPostings:
        """The closed part with the open one; what is gone is left out."""
        opened = list(self._open.values())
        hashes = np.fromiter(self._open, np.uint64, len(opened))
        hashes = np.concatenate((self._closed.hashes, hashes))
        sizes = np.fromiter(map(len, opened), np.int64, len(opened))
        sizes = np.concatenate((np.diff(self._closed.ends, prepend=0), sizes))
        # Copies: a buffer in use by another thread would make adding to its posting fail here.
        said = np.frombuffer(b"".join(each.tobytes() for each in opened), np.int32)
        said = np.concatenate((self._closed.occurrences, said))
        order = np.argsort(hashes, kind="stable")
        starts = (np.cumsum(sizes) - sizes)[order]
        hashes, sizes = hashes[order], sizes[order]
        before = np.cumsum(sizes) - sizes
        said = said[np.repeat(starts - before, sizes) + np.arange(len(said))]
        first = np.concatenate(([True], hashes[1:] != hashes[:-1])) if len(hashes) else hashes > 0
        term = np.repeat(np.cumsum(first) - 1, sizes)
        kept = said != _GONE
        counts = np.bincount(term[kept], minlength=int(np.count_nonzero(first)))
        used = counts > 0
        ends = np.cumsum(counts[used], dtype=np.int32)
        return ClosedPostings(hashes[first][used], ends, said[kept])


@lru_cache(_HASHES_KEPT)
def _hash(term: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(term.encode(errors="surrogatepass"), digest_size=8).digest(), "little"
    )
