"""What the server counts: for Prometheus, and as a summary for the admin page."""

from __future__ import annotations

import platform
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, get_args

import anyio
import msgspec
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from chat_server import __version__
from chat_server.errors import ErrorCode
from chat_server.figures import THROTTLED_SHOWN, Family, Lately, families_of
from chat_server.live_metrics import LiveMetrics
from chat_server.log_config import Pseudonyms
from chat_server.speculation_metrics import SpeculationMetrics
from memory.messages import MessageStatus, UserId

Stage = Literal[
    "admit",
    "embed",
    "window",
    "commit",
    "plan",
    "recall",
    "model_request",
    "first_token",
    "delta_wait",
    "first_delta",
    "reply",
    "commit_reply",
    "total",
]
LimitScope = Literal["user", "global"]

SUMMARY_WINDOW_S: Final = 300.0
SUMMARY_TURNS: Final = 1_000
LAG_INTERVAL_S: Final = 0.5
THROTTLED_KEPT: Final = 1_000
"""Beyond these, users that were seldom throttled are forgotten, half of all at a time."""

STAGE_BUCKETS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
LAG_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BATCH_BUCKETS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100)


class _Turn(msgspec.Struct, frozen=True):
    ended_s: float
    took_s: float
    failed: bool


class Metrics:
    """Counts; one for each server. Not for several threads."""

    def __init__(self, pseudonyms: Pseudonyms, clock: Callable[[], float] = time.monotonic) -> None:
        self._pseudonyms = pseudonyms
        self._open_connections = 0
        self._clock = clock
        self._recent: deque[_Turn] = deque(maxlen=SUMMARY_TURNS)
        self._throttled = 0
        self._throttled_users: Tally[UserId] = Tally()
        self._registry = CollectorRegistry()
        self.speculation = SpeculationMetrics(self._registry)
        self.live = LiveMetrics(self._registry)
        self._define()
        ProcessCollector(registry=self._registry)

    def _define(self) -> None:
        to = self._registry
        self._connections = Gauge("tandem_connections", "Open WebSockets.", registry=to)
        self._turns = Counter("tandem_turns", "Ended turns.", ["status"], registry=to)
        self._stages = Histogram(
            "tandem_stage_seconds",
            "Time of a turn's stages.",
            ["stage"],
            registry=to,
            buckets=STAGE_BUCKETS_S,
        )
        self._rejections = Counter(
            "tandem_rate_limit_rejections", "Messages over a limit.", ["scope"], registry=to
        )
        self._errors = Counter("tandem_errors", "Errors told to clients.", ["code"], registry=to)
        self._model_failures = Counter(
            "tandem_model_failures", "Failures of the language model.", ["code"], registry=to
        )
        self._degraded = Counter(
            "tandem_short_term_degraded",
            "Operations that went on without Redis.",
            ["operation"],
            registry=to,
        )
        self._restarts = Counter(
            "tandem_child_restarts", "Restarts of supervised children.", ["child"], registry=to
        )
        self._lag = Histogram(
            "tandem_event_loop_lag_seconds",
            "How late the event loop wakes a task that slept.",
            registry=to,
            buckets=LAG_BUCKETS_S,
        )
        self._batches = Histogram(
            "tandem_commit_batch_size",
            "Messages that one write to Chroma stored together.",
            registry=to,
            buckets=BATCH_BUCKETS,
        )
        self._replies_waiting = Gauge(
            "tandem_replies_waiting", "Replies that wait to be stored.", registry=to
        )
        self._journal_failures = Counter(
            "tandem_journal_failures", "Writes of the journal that failed.", registry=to
        )
        self._unembedded = Gauge(
            "tandem_unembedded",
            "Messages that are known to be stored and have no vector yet.",
            registry=to,
        )
        self._embedding_failures = Counter(
            "tandem_embedding_failures",
            "Texts that the embedder gave no vector, or not in time.",
            registry=to,
        )
        self._healings = Counter(
            "tandem_store_healings",
            "Collections of Chroma whose vectors had to be made anew.",
            registry=to,
        )
        self._healing_remaining = Gauge(
            "tandem_store_healing_remaining",
            "Records that still have no vector because of that.",
            registry=to,
        )
        Info("tandem_build", "What runs here.", registry=to).info(
            {"version": __version__, "python": platform.python_version()}
        )
        # Series that are there from the start can be told from series that are missing.
        for status in get_args(MessageStatus):
            self._turns.labels(status)
        for stage in get_args(Stage):
            self._stages.labels(stage)
        for scope in get_args(LimitScope):
            self._rejections.labels(scope)

    def connection_opened(self) -> None:
        self._open_connections += 1
        self._connections.set(self._open_connections)

    def connection_closed(self) -> None:
        self._open_connections -= 1
        self._connections.set(self._open_connections)

    def stage_took(self, stage: Stage, took_s: float) -> None:
        self._stages.labels(stage).observe(took_s)

    def turn_ended(self, status: MessageStatus, took_s: float) -> None:
        """A turn is over, *took_s* after its message came: its stage ``total``."""
        self._turns.labels(status).inc()
        self.stage_took("total", took_s)
        failed = status in {"failed", "interrupted"}
        self._recent.append(_Turn(self._clock(), took_s, failed))

    def rate_limit_rejected(self, scope: LimitScope, user: UserId) -> None:
        """A message was over the limit of its *user*, or of all."""
        self._rejections.labels(scope).inc()
        self._throttled += 1
        if scope == "user":
            self._throttled_users[user] += 1
            if len(self._throttled_users) > THROTTLED_KEPT:
                most = self._throttled_users.most_common(THROTTLED_KEPT // 2)
                self._throttled_users = Tally(dict(most))

    def error_told(self, code: ErrorCode) -> None:
        self._errors.labels(code).inc()

    def model_failed(self, code: ErrorCode) -> None:
        self._model_failures.labels(code).inc()

    def short_term_degraded(self, operation: str) -> None:
        """*operation* went on without Redis; a name from the program, never from a request."""
        self._degraded.labels(operation).inc()

    def child_restarted(self, child: str) -> None:
        self._restarts.labels(child).inc()

    def batch_written(self, messages: int) -> None:
        """One write held *messages*, whatever became of it."""
        self._batches.observe(messages)

    def replies_waiting(self, replies: int) -> None:
        self._replies_waiting.set(replies)

    def journal_failed(self) -> None:
        self._journal_failures.inc()

    def healing_began(self, collections: int) -> None:
        """The vectors of so many *collections* are being made anew."""
        self._healings.inc(collections)

    def embedding_failed(self, texts: int) -> None:
        """So many *texts* got no vector."""
        self._embedding_failures.inc(texts)

    def watch_unembedded(self, left: Callable[[], int]) -> None:
        """Ask *left* for the messages without a vector, at each scrape."""
        self._unembedded.set_function(left)

    def watch_healing(self, remaining: Callable[[], int]) -> None:
        """Ask *remaining* for the records that are still to be healed, at each scrape."""
        self._healing_remaining.set_function(remaining)

    async def watch_event_loop(self) -> None:
        """Measure the event loop's lag until cancelled, twice a second."""
        while True:
            due_s = self._clock() + LAG_INTERVAL_S
            await anyio.sleep(LAG_INTERVAL_S)
            self._lag.observe(max(self._clock() - due_s, 0.0))

    def render(self) -> tuple[bytes, str]:
        """Everything in Prometheus's text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def families(self) -> tuple[Family, ...]:
        """Everything, for being merged with what other processes counted."""
        return families_of(self._registry)

    def lately(self) -> Lately:
        """The turns of the last minutes, and who was throttled."""
        since_s = self._clock() - SUMMARY_WINDOW_S
        while self._recent and self._recent[0].ended_s < since_s:
            self._recent.popleft()
        most = self._throttled_users.most_common(THROTTLED_SHOWN)
        return Lately(
            turns=len(self._recent),
            took_s=sum(turn.took_s for turn in self._recent),
            failed=sum(turn.failed for turn in self._recent),
            throttled=self._throttled,
            throttled_users={self._pseudonyms.of(user): count for user, count in most},
        )

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._open_connections
