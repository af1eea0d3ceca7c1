"""Where the time of one turn went."""

from __future__ import annotations

import time

from chat_server.metrics import Metrics, Stage


class Stages:
    """Milliseconds by stage, from the moment of construction."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._begun = self._last = time.perf_counter()
        self.ms: dict[str, float] = {}

    def end(self, stage: Stage) -> None:
        """Note that *stage* took the time since the last one ended."""
        now = time.perf_counter()
        self.took(stage, now - self._last)
        self._last = now

    def took(self, stage: Stage, seconds: float) -> None:
        """Note a stage that ran beside the others."""
        self.ms[stage] = round(seconds * 1000, 2)
        if stage != "total":  # counted when the turn ends
            self._metrics.stage_took(stage, seconds)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the turn began."""
        return time.perf_counter() - self._begun
