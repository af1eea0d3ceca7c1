"""The search for the knee: the highest rate that a server takes without getting behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from bench.figures import distribution
from bench.level import Level

ACCEPTED_WITHIN_MS = 250.0
STEP = 1.3
BISECTIONS = 3
HIGHEST_RATE = 500.0


class Knee(msgspec.Struct, frozen=True, kw_only=True):
    """The highest rate that was kept up with, and the lowest one that was not (turns a second).

    ``tried`` has the p99 (ms) from send to ``accepted`` by rate, in order; 0 is nothing.
    """

    kept: float
    lost: float | None
    tried: list[tuple[float, float]]


def kept_up(level: Level) -> bool:
    """Whether no error came, no message found all users busy, and p99 of ``accepted`` is low."""
    return not level.errors and 0 < accepted_p99_ms(level) < ACCEPTED_WITHIN_MS


def accepted_p99_ms(level: Level) -> float:
    return distribution(level.times_ms.get("send_to_accepted", [])).p99


async def find_knee(probe: Callable[[float], Awaitable[Level]], *, begin: float) -> Knee:
    """Raise the rate from *begin* until it is too much (lower it where that is too much
    already), then halve the interval.
    """
    tried: list[tuple[float, float]] = []

    async def keeps(rate: float) -> bool:
        level = await probe(rate)
        tried.append((rate, accepted_p99_ms(level)))
        return kept_up(level)

    kept, lost = 0.0, None
    rate = begin
    while lost is None and rate <= HIGHEST_RATE:
        if await keeps(rate):
            kept, rate = rate, round(rate * STEP, 1)
        else:
            lost = rate
    while kept == 0.0 and lost is not None and lost > 1:
        rate = round(lost / STEP, 1)
        if await keeps(rate):
            kept = rate
        else:
            lost = rate
    for _ in range(BISECTIONS if lost is not None and kept else 0):
        rate = round((kept + (lost or kept)) / 2, 1)
        if await keeps(rate):
            kept = rate
        else:
            lost = rate
    return Knee(kept=kept, lost=lost, tried=tried)
