from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from bench.figures import distribution, histograms, percentile, since


def test_percentiles_lie_between_the_figures_around_them() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert percentile([1.0, 2.0, 3.0], 1.0) == 3.0
    assert percentile([7.0], 0.99) == 7.0


def test_a_distribution_does_not_ask_for_order_and_nothing_is_zero() -> None:
    found = distribution([3.0, 1.0, 2.0])
    assert (found.count, found.mean, found.p50, found.max) == (3, 2.0, 2.0, 3.0)
    assert distribution([]).p99 == 0.0


def page(*observed: float) -> str:
    registry = CollectorRegistry()
    lag = Histogram("lag_seconds", "", registry=registry, buckets=(0.01, 0.1))
    stage = Histogram("stage", "", ["stage"], registry=registry, buckets=(1,))
    for figure in observed:
        lag.observe(figure)
        stage.labels("embed").observe(figure)
    return generate_latest(registry).decode()


def test_what_a_histogram_saw_since_before_is_counted() -> None:
    before, after = histograms(page(0.001)), histograms(page(0.001, 0.05, 0.3))
    lag = since(after, before)["lag_seconds"]
    assert lag.count == 2
    assert lag.over(0.01) == 2
    assert lag.over(0.1) == 1
    assert lag.max_bound == float("inf")
    assert round(lag.mean, 3) == 0.175
    assert since(after, before)["stage/embed"].count == 2


def test_histograms_add_up() -> None:
    lag = histograms(page(0.001, 0.05))["lag_seconds"]
    both = lag.plus(histograms(page(0.3))["lag_seconds"])
    assert (both.count, both.over(0.1), round(both.total, 3)) == (3, 1, 0.351)
