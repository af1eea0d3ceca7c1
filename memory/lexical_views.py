"""How often terms are in a message, and in what was said around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from memory.bm25 import Scores

Slots = npt.NDArray[np.int32]

COMMON_SHARE = 4
"""A term that is said more than once for so many slots is a common one."""


class Links(NamedTuple):
    """int32, (capacity + 1,): the slots of the message ``previous`` and ``following`` in its
    conversation, which has the number ``talk``. Where there is none, the slot is the last one,
    -1, which never holds a message.
    """

    previous: Slots
    following: Slots
    talk: Slots


class Near(NamedTuple):
    """Of each slot the two before it and the two after it, and its conversation."""

    before: Slots
    previous: Slots
    following: Slots
    after: Slots
    talk: Slots


def near_of(links: Links) -> Near:
    """The slots around each, two steps either way."""
    previous, following, talk = links
    return Near(previous.take(previous), previous, following, following.take(following), talk)


def view_counts(postings: Sequence[Slots], near: Near, talks: int) -> tuple[Scores, ...]:
    """How often each term is in the documents of each view: float32, (terms, documents).

    From the slots that have a term, its counts are carried to where they count as well; where a
    term is in many, looking around from every slot takes less time. The last column of the
    first three stands for nothing.
    """
    terms, slots = len(postings), len(near.talk)
    counts, pair = np.zeros((terms, slots), np.float32), np.zeros((terms, slots), np.float32)
    window, in_talks = np.empty_like(counts), np.zeros((terms, talks), np.float32)
    one = np.float32(1)
    for row, posting in enumerate(postings):
        np.add.at(counts[row], posting, one)
        np.add.at(in_talks[row], near.talk.take(posting), one)
        common = COMMON_SHARE * len(posting) > slots
        if common:
            pair[row] = counts[row].take(near.previous)
        else:
            np.add.at(pair[row], near.following.take(posting), one)
        pair[row] += counts[row]
        window[row] = pair[row]
        if common:
            for each in (near.before, near.following, near.after):
                window[row] += counts[row].take(each)
        else:
            for each in (near.after, near.previous, near.before):
                np.add.at(window[row], each.take(posting), one)
    return counts, pair, window, in_talks
