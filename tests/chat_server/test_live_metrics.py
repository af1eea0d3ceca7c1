from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from chat_server.live_metrics import LiveMetrics


def test_returns_and_mishaps_are_counted_by_kind_and_begin_at_nothing() -> None:
    registry = CollectorRegistry()
    metrics = LiveMetrics(registry)
    metrics.returned("resumed")
    metrics.mishap("events_alone", 3)
    lines = generate_latest(registry).decode().splitlines()
    assert 'tandem_connections_begun_total{outcome="resumed"} 1.0' in lines
    assert 'tandem_connections_begun_total{outcome="begun_anew"} 0.0' in lines
    assert 'tandem_neighbourhood_mishaps_total{mishap="events_alone"} 3.0' in lines
    assert 'tandem_neighbourhood_mishaps_total{mishap="node_died"} 0.0' in lines
