"""Where time and CPU went under load, and what to buy next."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from bench.figures import Histogram

IN_LINE = ("admit", "embed", "window", "commit", "delta_wait", "commit_reply")
"""Stages that a user waits for, one after the other; the model's own time is none of ours."""
FULL = 0.85
ADVICE = {
    "server": "a faster core: the event loop and the embedder share one process",
    "chroma": "a machine of its own with a faster core and disk for Chroma (chroma.url)",
    "redis": "a machine of its own for Redis (redis.url)",
}


class Bottleneck(msgspec.Struct, frozen=True, kw_only=True):
    """``stages_ms``: mean by stage; ``cores``: used by each process; ``machine``: share of all
    cores that was busy, whoever used them.
    """

    stages_ms: dict[str, float]
    cores: dict[str, float]
    machine: float
    advice: str


def find_bottleneck(
    histograms: Mapping[str, Histogram],
    cpu_s: Mapping[str, float],
    took_s: float,
    machine: float,
) -> Bottleneck:
    """What *cpu_s* and the stages say of *took_s* of load; *machine* as in ``Bottleneck``."""
    stages = {
        stage: histograms.get(f"tandem_stage_seconds/{stage}", Histogram()).mean * 1000
        for stage in IN_LINE
    }
    cores = {part: round(seconds / took_s, 2) for part, seconds in cpu_s.items()}
    return Bottleneck(
        stages_ms={stage: round(ms, 2) for stage, ms in stages.items()},
        cores=cores,
        machine=round(machine, 2),
        advice=_advice(cores, machine),
    )


def shares(figures: Mapping[str, float]) -> dict[str, float]:
    """Each as a part of their sum."""
    total = sum(figures.values()) or 1.0
    return {name: figure / total for name, figure in figures.items()}


def _advice(cores: Mapping[str, float], machine: float) -> str:
    own = {part: used for part, used in cores.items() if part in ADVICE}
    part = max(own, key=lambda each: own[each])
    nearest = f"{part} is nearest to a full core ({own[part]:.2f})"
    if machine >= FULL and own[part] < FULL:
        return (
            f"All {os.cpu_count()} cores of the machine are busy to {100 * machine:.0f} %; "
            f"{nearest}. Buy more cores first."
        )
    return f"{nearest[0].upper()}{nearest[1:]}. Buy {ADVICE[part]}."
