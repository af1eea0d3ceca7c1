from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from chat_server.figures import (
    SUPERVISOR,
    Family,
    Figures,
    Lately,
    Sample,
    families_of,
    hot_together,
    kept,
    merged,
    rendered,
    summary,
    together,
    worker_lines,
)
from memory.hot_entries import HotFigures


def process(turns: int, open_now: int, took: list[float]) -> tuple[Family, ...]:
    """The families of one process."""
    registry = CollectorRegistry()
    counter = Counter("turns", "Ended turns.", ["status"], registry=registry)
    counter.labels("completed").inc(turns)
    Gauge("connections", "Open.", registry=registry).set(open_now)
    histogram = Histogram("seconds", "Time.", registry=registry, buckets=(1, 2))
    for value in took:
        histogram.observe(value)
    return families_of(registry)


def samples(families: list[Family]) -> dict[tuple[str, str], float]:
    body, content_type = rendered(families)
    assert content_type.startswith("text/plain")
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_counters_gauges_and_histograms_of_all_processes_are_summed() -> None:
    found = samples(list(merged([process(2, 5, [0.5]), process(3, 1, [1.5, 9.0])])))
    assert found["turns_total", "completed"] == 5
    assert found["connections", ""] == 6
    assert found["seconds_count", ""] == 3
    assert found["seconds_sum", ""] == 11.0
    assert found["seconds_bucket", "2.0"] == 2
    assert found["seconds_bucket", "+Inf"] == 3


def test_times_of_beginning_are_the_first_and_limits_the_largest() -> None:
    def facts(began: float, files: float) -> list[Family]:
        return [
            Family("began", "gauge", "", [Sample("process_start_time_seconds", {}, began)]),
            Family("files", "gauge", "", [Sample("process_max_fds", {}, files)]),
            Family("build", "info", "", [Sample("build_info", {"version": "1"}, 1.0)]),
        ]

    values = [
        sample.value
        for family in merged([facts(7.0, 10.0), facts(5.0, 30.0)])
        for sample in family.samples
    ]
    assert values == [5.0, 30.0, 1.0]


def test_a_label_that_only_one_process_knows_is_there() -> None:
    one = [Family("errors", "counter", "", [Sample("errors_total", {"code": "a"}, 1)])]
    other = [Family("errors", "counter", "", [Sample("errors_total", {"code": "b"}, 2)])]
    (family,) = merged([one, other])
    assert [(it.labels["code"], it.value) for it in family.samples] == [("a", 1), ("b", 2)]


def test_of_a_process_that_ended_stays_what_was_counted() -> None:
    alive = Figures(
        slot=1,
        pid=7,
        since=1.0,
        families=process(2, 5, [0.5]),
        lately=Lately(turns=2, took_s=1.0, throttled=3, throttled_users={"p": 3}),
        connections=5,
        runs=1,
    )
    left = kept(together([kept(alive), kept(alive)]))
    found = samples(list(left.families))
    assert found["turns_total", "completed"] == 4
    assert found["seconds_count", ""] == 2
    assert ("connections", "") not in found
    assert (left.lately.throttled, left.lately.throttled_users) == (6, {"p": 6})
    assert (left.lately.turns, left.connections, left.runs) == (0, 0, 0)
    assert worker_lines([left]) == []


def test_the_summary_is_over_the_turns_of_all() -> None:
    found = summary(
        [
            Lately(turns=1, took_s=1.0, failed=1, throttled=1, throttled_users={"a": 1}),
            Lately(turns=3, took_s=1.0, throttled=5, throttled_users={"a": 2, "b": 3}),
        ],
        connections=9,
        active_users=4,
        redis_usage={},
        chroma_usage={},
    )
    assert (found.average_response_time, found.error_rate) == (500.0, 0.25)
    assert found.rate_limiting.total_throttled == 6
    assert found.rate_limiting.per_user_throttled == {"a": 3, "b": 3}
    assert (found.connections, found.active_users) == (9, 4)


def test_the_list_has_those_who_serve_by_their_slots() -> None:
    rss = (
        Family(
            "process_resident_memory_bytes",
            "gauge",
            "",
            [Sample("process_resident_memory_bytes", {}, 1_000.0)],
        ),
    )
    figures = [
        Figures(slot=1, pid=11, since=2.0, connections=3, runs=1, families=rss),
        Figures(slot=SUPERVISOR, pid=9, since=1.0),
        Figures(slot=0, pid=10, since=2.0),
    ]
    assert [
        (it.slot, it.pid, it.connections, it.runs, it.rss_bytes) for it in worker_lines(figures)
    ] == [
        (0, 10, 0, 0, 0),
        (1, 11, 3, 1, 1_000),
    ]


def test_hot_memories_are_summed_where_there_are_any() -> None:
    names = HotFigures.__struct_fields__
    one = HotFigures(**dict.fromkeys(names, 1))
    figures = [
        Figures(slot=0, pid=1, since=0.0, hot=one),
        Figures(slot=1, pid=2, since=0.0, hot=one),
        Figures(slot=SUPERVISOR, pid=3, since=0.0),
    ]
    assert hot_together(figures) == HotFigures(**dict.fromkeys(names, 2))
