"""The ranking that recall had before: words and meaning with round weights. Kept to compare."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from memory.bm25 import LexicalScores, Scores

PAIR, WINDOW, CONVERSATION = 2.0, 0.5, 1.0
MEANING, PRODUCT = 2.5, 2.0
SPEAKER, LENGTH, QUESTION = 2.0, 2.0, -0.5
LONG_WORDS = 100
LEAST_BEST_COSINE = 0.3


def round_weight_totals(
    lexical: LexicalScores,
    cosine: Scores,
    words: Scores,
    asks: npt.NDArray[np.bool_],
    named: npt.NDArray[np.bool_],
) -> Scores:
    """float32, (slots,): what decision 4 ranks by. *words* are counts, *named* says whose
    speaker the question names.
    """
    weight = lexical.weight or 1.0
    window = lexical.window / weight
    near = np.maximum(cosine, 0) / max(float(cosine.max(initial=0.0)), LEAST_BEST_COSINE)
    total = PAIR * lexical.pair / weight + WINDOW * window
    total = total + CONVERSATION * lexical.conversation / weight
    total = total + MEANING * near + PRODUCT * window * near + SPEAKER * named
    total = total + LENGTH * np.minimum(np.log1p(words) / np.log1p(LONG_WORDS), 1)
    totals: Scores = (total + QUESTION * asks).astype(np.float32)
    return totals
