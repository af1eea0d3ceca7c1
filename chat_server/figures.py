"""The figures of one process of the server, and those of all of them together; pure."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from memory.hot_entries import HotFigures

THROTTLED_SHOWN: Final = 100
SUPERVISOR: Final = -1
"""The slot of who has none."""


class Sample(NamedTuple):
    """One value of a family."""

    name: str
    labels: dict[str, str]
    value: float


class Family(NamedTuple):
    """A metric as Prometheus knows it, with all its samples."""

    name: str
    kind: str
    documentation: str
    samples: list[Sample]


class Lately(msgspec.Struct, frozen=True, kw_only=True):
    """Turns of the last minutes, and rejections since the start. ``throttled_users``: of those
    who were throttled most, under their pseudonyms.
    """

    turns: int = 0
    took_s: float = 0.0
    failed: int = 0
    throttled: int = 0
    throttled_users: dict[str, int] = {}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one process says of itself. ``since``: seconds since the epoch."""

    slot: int
    pid: int
    since: float
    families: tuple[Family, ...] = ()
    lately: Lately = Lately()
    connections: int = 0
    connected_users: int = 0
    runs: int = 0
    hot: HotFigures | None = None


class MemoryUsage(msgspec.Struct, frozen=True, rename="camel"):
    """What the two memories say of themselves: Redis ``activeUsers``, ``totalKeys`` and
    ``memoryUsed`` (bytes), Chroma ``collections`` and ``records``.
    """

    redis_usage: Mapping[str, int]
    chroma_usage: Mapping[str, int]


class RateLimiting(msgspec.Struct, frozen=True, rename="camel"):
    """Rejections since the start; of users, the most throttled, under their pseudonyms."""

    total_throttled: int
    per_user_throttled: dict[str, int]


class Summary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The figures of the admin page.

    ``average_response_time`` (ms, from message to the end of its reply) and ``error_rate`` (0..1,
    replies that failed or broke off) are over the last 5 minutes, or of each process 1,000 turns
    if there were more.
    """

    active_users: int
    average_response_time: float
    error_rate: float
    memory: MemoryUsage
    rate_limiting: RateLimiting
    connections: int


class WorkerLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One process in the list of the admin page."""

    slot: int
    pid: int
    since: float
    connections: int
    runs: int
    rss_bytes: int


def summary(
    lately: Sequence[Lately],
    *,
    connections: int,
    active_users: int,
    redis_usage: Mapping[str, int],
    chroma_usage: Mapping[str, int],
) -> Summary:
    """The summary of processes that did so much *lately*; what only others know is given."""
    turns = sum(each.turns for each in lately)
    users: Tally[str] = Tally()
    for each in lately:
        users.update(each.throttled_users)
    return Summary(
        active_users=active_users,
        average_response_time=(
            round(1000 * sum(each.took_s for each in lately) / turns, 3) if turns else 0.0
        ),
        error_rate=sum(each.failed for each in lately) / turns if turns else 0.0,
        memory=MemoryUsage(redis_usage=redis_usage, chroma_usage=chroma_usage),
        rate_limiting=RateLimiting(
            total_throttled=sum(each.throttled for each in lately),
            per_user_throttled=dict(users.most_common(THROTTLED_SHOWN)),
        ),
        connections=connections,
    )


def hot_together(figures: Iterable[Figures]) -> HotFigures:
    """What is in RAM in all processes; a user may be in that of several."""
    known = [each.hot for each in figures if each.hot is not None]
    names = HotFigures.__struct_fields__
    return HotFigures(**{name: sum(getattr(hot, name) for hot in known) for name in names})


def worker_lines(figures: Iterable[Figures]) -> list[WorkerLine]:
    """The processes that serve, by their slots."""
    return [
        WorkerLine(
            slot=each.slot,
            pid=each.pid,
            since=each.since,
            connections=each.connections,
            runs=each.runs,
            rss_bytes=int(_value(each, "process_resident_memory_bytes")),
        )
        for each in sorted(figures, key=lambda each: each.slot)
        if each.slot != SUPERVISOR and each.pid
    ]


def kept(figures: Figures) -> Figures:
    """What of *figures* stays true when the process has ended: what was counted."""
    return Figures(
        slot=figures.slot,
        pid=0,
        since=0.0,
        families=tuple(each for each in figures.families if each.kind in {"counter", "histogram"}),
        lately=Lately(
            throttled=figures.lately.throttled, throttled_users=figures.lately.throttled_users
        ),
    )


def together(figures: Sequence[Figures]) -> Figures:
    """Two or more of a slot's processes, one after the other, as if they were one."""
    users: Tally[str] = Tally()
    for each in figures:
        users.update(each.lately.throttled_users)
    last = figures[-1]
    return msgspec.structs.replace(
        last,
        families=tuple(merged([each.families for each in figures])),
        lately=Lately(
            throttled=sum(each.lately.throttled for each in figures),
            throttled_users=dict(users.most_common(THROTTLED_SHOWN)),
        ),
    )


def families_of(registry: CollectorRegistry) -> tuple[Family, ...]:
    """All that *registry* holds now."""
    return tuple(
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            [Sample(it.name, dict(it.labels), it.value) for it in metric.samples],
        )
        for metric in registry.collect()
    )


def merged(processes: Sequence[Iterable[Family]]) -> Iterator[Family]:
    """The families of all *processes*: what is counted or held is summed, times of beginning are
    the first, limits and facts the largest.
    """
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for process in processes:
        for family in process:
            families.setdefault(family.name, family)
            held = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                join = _joined(sample.name)
                held[key] = join(held[key], sample.value) if key in held else sample.value
    for name, family in families.items():
        samples = [
            Sample(sample, dict(labels), value) for (sample, labels), value in values[name].items()
        ]
        yield family._replace(samples=samples)


def rendered(families: Iterable[Family]) -> tuple[bytes, str]:
    """*families* in Prometheus's text format, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Given(families))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Given(Collector):
    """Collects what it was given."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.documentation, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def _joined(sample: str) -> Callable[[float, float], float]:
    if sample.endswith("_created") or sample == "process_start_time_seconds":
        return min
    if sample.endswith("_info") or sample == "process_max_fds":
        return max
    return lambda one, other: one + other


def _value(figures: Figures, name: str) -> float:
    return sum(
        sample.value
        for family in figures.families
        if family.name == name
        for sample in family.samples
    )
