"""Figures of what was prepared while it was typed."""

from prometheus_client import CollectorRegistry, generate_latest

from chat_server.speculation_metrics import SpeculationMetrics


def test_every_series_is_there_from_the_start() -> None:
    registry = CollectorRegistry()
    SpeculationMetrics(registry)
    shown = generate_latest(registry).decode()
    for outcome in ("hit", "late", "miss"):
        assert f'tandem_speculation_sends_total{{outcome="{outcome}"}} 0.0' in shown
    for fate in ("prepared", "replaced", "dropped"):
        assert f'tandem_speculation_drafts_total{{fate="{fate}"}} 0.0' in shown


def test_hits_and_saved_time_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = SpeculationMetrics(registry)
    metrics.sent("hit")
    metrics.saved(4.5)
    metrics.saved(3.0)
    shown = generate_latest(registry).decode()
    assert 'tandem_speculation_sends_total{outcome="hit"} 1.0' in shown
    assert "tandem_speculation_saved_milliseconds_total 7.5" in shown
