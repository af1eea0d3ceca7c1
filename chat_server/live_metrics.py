"""What the server counts of connections that come back, and of the processes beside this one."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter

Return = Literal["new", "resumed", "begun_anew"]
"""``new``: nothing was to be resumed; ``begun_anew``: something was, and is gone."""
Mishap = Literal[
    "letters_missed",
    "events_alone",
    "broker_emptied",
    "node_died",
    "run_inherited",
    "taken_for_dead",
]
"""``events_alone``: told by this process only, because the broker was away."""


class LiveMetrics:
    """Counts returns, and what went wrong between processes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._returns = Counter(
            "tandem_connections_begun",
            "Connections, by what became of what they had missed.",
            ["outcome"],
            registry=registry,
        )
        self._mishaps = Counter(
            "tandem_neighbourhood_mishaps",
            "What went wrong between processes, and was mended.",
            ["mishap"],
            registry=registry,
        )
        for outcome in get_args(Return):
            self._returns.labels(outcome)
        for mishap in get_args(Mishap):
            self._mishaps.labels(mishap)

    def returned(self, outcome: Return) -> None:
        """A connection has begun."""
        self._returns.labels(outcome).inc()

    def mishap(self, mishap: Mishap, count: int = 1) -> None:
        """Something went wrong *count* times."""
        self._mishaps.labels(mishap).inc(count)
