from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chat_server.figures import summary as summary_of
from chat_server.log_config import Pseudonyms
from chat_server.metrics import Metrics
from memory.messages import UserId

NAMES = Pseudonyms(b"salt")
ADA = UserId("ada")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(NAMES, clock)


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Values by name and by the label's value; there is never more than one label."""
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def summary(metrics: Metrics) -> dict[str, Any]:
    snapshot = summary_of(
        [metrics.lately()],
        connections=metrics.connections,
        active_users=7,
        redis_usage={"activeUsers": 7, "totalKeys": 30, "memoryUsed": 1_000_000},
        chroma_usage={"collections": 1, "records": 12},
    )
    built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(snapshot))
    return built


def test_everything_counted_is_rendered(metrics: Metrics) -> None:
    metrics.connection_opened()
    metrics.connection_opened()
    metrics.connection_closed()
    metrics.turn_ended("completed", 0.3)
    metrics.stage_took("embed", 0.002)
    metrics.rate_limit_rejected("user", ADA)
    metrics.rate_limit_rejected("global", ADA)
    metrics.error_told("bad_frame")
    metrics.model_failed("model_timeout")
    metrics.short_term_degraded("admit")
    metrics.child_restarted("chroma")
    metrics.batch_written(3)
    found = samples(metrics)
    expected = {
        ("tandem_connections", ""): 1,
        ("tandem_turns_total", "completed"): 1,
        ("tandem_stage_seconds_count", "embed"): 1,
        ("tandem_stage_seconds_sum", "embed"): 0.002,
        ("tandem_stage_seconds_count", "total"): 1,
        ("tandem_stage_seconds_sum", "total"): 0.3,
        ("tandem_rate_limit_rejections_total", "user"): 1,
        ("tandem_rate_limit_rejections_total", "global"): 1,
        ("tandem_errors_total", "bad_frame"): 1,
        ("tandem_model_failures_total", "model_timeout"): 1,
        ("tandem_short_term_degraded_total", "admit"): 1,
        ("tandem_child_restarts_total", "chroma"): 1,
        ("tandem_event_loop_lag_seconds_count", ""): 0,
        ("tandem_commit_batch_size_sum", ""): 3,
    }
    assert {key: found[key] for key in expected} == expected
    assert any(name == "tandem_build_info" for name, _ in found)
    assert any(name == "process_cpu_seconds_total" for name, _ in found)


def test_series_stand_at_zero_before_anything_happens(metrics: Metrics) -> None:
    found = samples(metrics)
    assert found["tandem_turns_total", "interrupted"] == 0
    assert found["tandem_stage_seconds_count", "commit_reply"] == 0
    assert found["tandem_rate_limit_rejections_total", "user"] == 0


def test_no_user_is_named(metrics: Metrics) -> None:
    metrics.rate_limit_rejected("user", UserId("guest-abc"))
    assert b"guest-abc" not in metrics.render()[0]
    assert "guest-abc" not in str(summary(metrics))


def test_two_servers_in_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics(NAMES)
    metrics.connection_opened()
    assert samples(other)["tandem_connections", ""] == 0


def test_the_summary_has_the_shape_of_the_admin_page(metrics: Metrics) -> None:
    metrics.connection_opened()
    metrics.turn_ended("completed", 0.1)
    metrics.turn_ended("stopped", 0.2)
    metrics.turn_ended("failed", 0.6)
    metrics.turn_ended("interrupted", 0.3)
    metrics.rate_limit_rejected("user", ADA)
    metrics.rate_limit_rejected("user", ADA)
    metrics.rate_limit_rejected("global", ADA)
    assert summary(metrics) == {
        "activeUsers": 7,
        "averageResponseTime": 300.0,
        "errorRate": 0.5,
        "memory": {
            "redisUsage": {"activeUsers": 7, "totalKeys": 30, "memoryUsed": 1_000_000},
            "chromaUsage": {"collections": 1, "records": 12},
        },
        "rateLimiting": {"totalThrottled": 3, "perUserThrottled": {NAMES.of("ada"): 2}},
        "connections": 1,
    }


def test_without_turns_the_summary_is_zero(metrics: Metrics) -> None:
    found = summary(metrics)
    assert (found["averageResponseTime"], found["errorRate"]) == (0.0, 0.0)


def test_turns_older_than_five_minutes_do_not_count(metrics: Metrics, clock: Clock) -> None:
    metrics.turn_ended("failed", 9.0)
    clock.now_s += 200
    metrics.turn_ended("completed", 1.0)
    assert summary(metrics)["errorRate"] == 0.5
    clock.now_s += 101
    found = summary(metrics)
    assert (found["averageResponseTime"], found["errorRate"]) == (1000.0, 0.0)


def test_the_last_thousand_turns_count_at_most(metrics: Metrics) -> None:
    for _ in range(500):
        metrics.turn_ended("failed", 1.0)
    for _ in range(1000):
        metrics.turn_ended("completed", 1.0)
    assert summary(metrics)["errorRate"] == 0.0


def test_the_most_throttled_users_are_kept_and_the_rest_forgotten(metrics: Metrics) -> None:
    for number in range(50):
        for _ in range(10):
            metrics.rate_limit_rejected("user", UserId(f"often-{number}"))
    for number in range(5000):
        metrics.rate_limit_rejected("user", UserId(f"once-{number}"))
    limits = summary(metrics)["rateLimiting"]
    assert limits["totalThrottled"] == 5500
    shown = limits["perUserThrottled"]
    assert len(shown) == 100
    assert all(shown[NAMES.of(f"often-{number}")] == 10 for number in range(50))
    assert len(metrics._throttled_users) <= 1000


async def test_the_event_loop_is_watched_until_cancelled() -> None:
    metrics = Metrics(NAMES)
    async with anyio.create_task_group() as group:
        group.start_soon(metrics.watch_event_loop)
        with anyio.fail_after(10):
            while not samples(metrics)["tandem_event_loop_lag_seconds_count", ""]:
                await anyio.sleep(0.05)
        group.cancel_scope.cancel()


def test_missing_vectors_are_counted_when_they_are_asked_for(metrics: Metrics) -> None:
    left = [3]
    metrics.watch_unembedded(lambda: left[0])
    metrics.embedding_failed(2)
    assert samples(metrics)["tandem_unembedded", ""] == 3
    left[0] = 0
    assert samples(metrics)["tandem_unembedded", ""] == 0
    assert samples(metrics)["tandem_embedding_failures_total", ""] == 2


def test_healings_are_counted_and_what_remains_is_asked_for() -> None:
    metrics = Metrics(Pseudonyms())
    remaining = 7
    metrics.watch_healing(lambda: remaining)
    metrics.healing_began(2)
    metrics.healing_began(0)
    text = metrics.render()[0].decode()
    assert "tandem_store_healings_total 2.0" in text
    assert "tandem_store_healing_remaining 7.0" in text
