"""What the server counts of messages that were prepared while they were typed."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter

Outcome = Literal["hit", "late", "miss"]
"""``hit``: recall was ready; ``late``: it was being prepared; ``miss``: for another text."""
Fate = Literal["prepared", "replaced", "dropped"]
"""``replaced``: a newer one came; ``dropped``: too many came, or it was too long."""


class SpeculationMetrics:
    """Counts drafts, the messages that followed them, and the time that was saved."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sends = Counter(
            "tandem_speculation_sends",
            "Messages that drafts came before.",
            ["outcome"],
            registry=registry,
        )
        self._drafts = Counter(
            "tandem_speculation_drafts", "Drafts of messages.", ["fate"], registry=registry
        )
        self._saved = Counter(
            "tandem_speculation_saved_milliseconds",
            "What embedding and recall had taken for the messages of outcome hit.",
            registry=registry,
        )
        for outcome in get_args(Outcome):
            self._sends.labels(outcome)
        for fate in get_args(Fate):
            self._drafts.labels(fate)

    def draft(self, fate: Fate) -> None:
        self._drafts.labels(fate).inc()

    def sent(self, outcome: Outcome) -> None:
        """A message came after drafts of it, or of another text."""
        self._sends.labels(outcome).inc()

    def saved(self, took_ms: float) -> None:
        """So much had been done before the message came."""
        self._saved.inc(took_ms)
