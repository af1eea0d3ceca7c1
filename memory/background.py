"""What an item has to stand out from: the messages that do not answer the question."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from memory.bm25 import Scores
from memory.late_interaction import nth_largest

RUNNERS_UP: Final = 6
"""The score of an item goes by how far it is above the one in this place."""
TELLING_WORDS: Final = 3
"""What has fewer ("OK", "thank you") is nothing that others can be compared with."""
MANY: Final = 40
"""From so many on the sixth best is what it is taken for."""
TYPICAL: Final = 8.4
"""The median total of the sixth best, whatever the length of the question: it stands for the sixth
where there are fewer."""
SCARCE: Final = 3.4
"""So much less reaches a message that answers and has few others around it."""
MEANT: Final = 4.0
"""How much a cosine says, in points of words and concepts."""
STRANGE, KNOWN = 0.8, 1.6
"""Between these, what the best message has of its own goes from chance to an answer."""


def own_evidence(words: Scores, cosine: Scores) -> Scores:
    """What each message itself has to do with the question, whatever the others have: by shared
    *words* and concepts, as :mod:`memory.ranking` weighs them, and by meaning.
    """
    own = words + np.float32(MEANT) * np.maximum(cosine, 0)
    return own.astype(np.float32, copy=False)


def background(
    totals: Scores, words: Scores, apart: npt.NDArray[np.bool_], own: Scores | None
) -> float:
    """The total that is no merit, at least 0: that of the sixth best of those *apart*.

    *words*: how many each message has. Where few tell enough to be compared, the sixth best is
    none that could answer, and most parts of a total are shares of the best one, which is best also
    where nothing fits. What is typical takes its place then, lessened as far as a message has
    something of its *own*, and the less the more there are; 0 if *own* is ``None``: all are asked
    for.
    """
    told = apart & (words > 0)
    sixth = _place(totals, RUNNERS_UP, told)
    telling = int(np.count_nonzero(apart & (words >= TELLING_WORDS)))
    few = min(max((MANY - telling) / (MANY - RUNNERS_UP), 0.0), 1.0)
    if not few or own is None:
        return sixth
    best = float(own[told].max(initial=0.0))
    known = min(max((best - STRANGE) / (KNOWN - STRANGE), 0.0), 1.0)
    return max(sixth, few * (TYPICAL - SCARCE * known))


def _place(totals: Scores, place: int, counted: npt.NDArray[np.bool_]) -> float:
    """The *place*-th largest of those *counted*, at least 0; 0 where there are fewer."""
    if np.count_nonzero(counted) < place:
        return 0.0
    return max(nth_largest(np.where(counted, totals, np.float32(-np.inf)), place), 0.0)
