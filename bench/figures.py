"""Distributions of times, and Prometheus histograms before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from prometheus_client.parser import text_string_to_metric_families


class Distribution(msgspec.Struct, frozen=True):
    """What is said of a set of figures, in their unit; zeros where there are none."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The *share* quantile (0..1) of figures in ascending order, interpolated; 0 of none."""
    if not ordered:
        return 0.0
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def distribution(figures: Sequence[float]) -> Distribution:
    ordered = sorted(figures)
    return Distribution(
        count=len(ordered),
        mean=round(sum(ordered) / len(ordered), 3) if ordered else 0.0,
        p50=round(percentile(ordered, 0.5), 3),
        p90=round(percentile(ordered, 0.9), 3),
        p99=round(percentile(ordered, 0.99), 3),
        max=round(ordered[-1], 3) if ordered else 0.0,
    )


class Histogram(msgspec.Struct):
    """A Prometheus histogram: ``buckets`` are cumulative counts by upper bound, ascending."""

    buckets: dict[float, float] = {}
    total: float = 0.0

    @property
    def count(self) -> float:
        """How many were observed."""
        return max(self.buckets.values(), default=0.0)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def over(self, bound: float) -> float:
        """How many were greater than *bound*, which must be one of the bounds."""
        return self.count - self.buckets.get(bound, self.count)

    @property
    def max_bound(self) -> float:
        """The upper bound of the highest bucket that holds something; 0 of none."""
        return next((bound for bound, held in self.buckets.items() if held >= self.count > 0), 0.0)

    def since(self, before: Histogram) -> Histogram:
        """What was observed after *before*."""
        buckets = {
            bound: held - before.buckets.get(bound, 0.0) for bound, held in self.buckets.items()
        }
        return Histogram(buckets, self.total - before.total)

    def plus(self, other: Histogram) -> Histogram:
        """Both together."""
        bounds = sorted({*self.buckets, *other.buckets})
        buckets = {
            bound: self.buckets.get(bound, 0.0) + other.buckets.get(bound, 0.0) for bound in bounds
        }
        return Histogram(buckets, self.total + other.total)


def histograms(exposition: str) -> dict[str, Histogram]:
    """The histograms of a page of Prometheus's text format, by name; one with a label by
    ``name/value``.
    """
    found: dict[str, Histogram] = {}
    for family in text_string_to_metric_families(exposition):
        if family.type != "histogram":
            continue
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "le"}
            name = "/".join((family.name, *labels.values()))
            histogram = found.setdefault(name, Histogram({}, 0.0))
            if sample.name.endswith("_bucket"):
                histogram.buckets[float(sample.labels["le"])] = sample.value
            elif sample.name.endswith("_sum"):
                histogram.total = sample.value
    return found


def since(after: Mapping[str, Histogram], before: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """What each histogram of *after* observed after *before*."""
    return {
        name: histogram.since(before.get(name, Histogram({}, 0.0)))
        for name, histogram in after.items()
    }
