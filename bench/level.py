"""One level of load on one server: what its turns took, inside and outside, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import anyio
import msgspec
from anyio.to_thread import run_sync

from bench.figures import Distribution, Histogram, distribution, since
from bench.generator import Crowd, Turn
from bench.processes import Usage, machine_times
from bench.systems import Asked, Stub, System

SETTLE_S = 1.0
"""What is written behind the last reply belongs to its turn."""
PAUSE_S = 1.0
"""Between two turns of a user, on average, when the server needs no time."""
SPARE_USERS = 8
FIRST_MESSAGES_PER_S = 15.0
QUIET_AFTER_S = 6.0
"""When nothing is left of what a server writes behind."""
LAG_BOUNDS_S = (0.01, 0.025, 0.05)
MEGABYTE = 1_000_000

SERVER_FIGURES = ("model_request", "first_delta", "delta_wait")
OUTSIDE_FIGURES = ("send_to_request", "byte_to_delta", "send_to_accepted", "beyond_model")

Progress = Callable[[str], None]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a server: *rate* is turns a second."""

    rate: float
    first_token_ms: float
    tokens: int = 50
    token_ms: float = 20.0

    @property
    def users(self) -> int:
        """Enough that nobody has two replies under way."""
        own_s = (self.first_token_ms + self.tokens * self.token_ms) / 1000
        return int(self.rate * (own_s + PAUSE_S)) + SPARE_USERS


class Level(msgspec.Struct, kw_only=True):
    """What was measured; several portions of the same load add up. ``others_cpu_s`` is what
    programs used that have no part in it: where it is much, times say little.
    """

    load: Load
    times_ms: dict[str, list[float]] = {}
    errors: dict[str, int] = {}
    turns: int = 0
    took_s: float = 0.0
    cpu_s: dict[str, float] = {}
    others_cpu_s: float = 0.0
    rss_mb: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}

    def add(self, other: Level) -> None:
        for name, times in other.times_ms.items():
            self.times_ms.setdefault(name, []).extend(times)
        for code, times_seen in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + times_seen
        for part, seconds in other.cpu_s.items():
            self.cpu_s[part] = self.cpu_s.get(part, 0.0) + seconds
        for name, histogram in other.histograms.items():
            self.histograms[name] = self.histograms.get(name, Histogram()).plus(histogram)
        self.turns += other.turns
        self.took_s += other.took_s
        self.others_cpu_s += other.others_cpu_s
        self.rss_mb = other.rss_mb

    @property
    def cpu_ms_per_turn(self) -> dict[str, float]:
        """By part, idle use subtracted; ``sum`` is of the server's own parts."""
        per_turn = {
            part: round(seconds * 1000 / max(self.turns, 1), 2)
            for part, seconds in self.cpu_s.items()
        }
        own = (ms for part, ms in per_turn.items() if part not in {"generator", "stub"})
        return {**per_turn, "sum": round(sum(own), 2)}

    def distributions(self) -> dict[str, Distribution]:
        return {name: distribution(times) for name, times in self.times_ms.items()}


class Bench:
    """A server with its crowd, and what it uses while nobody talks."""

    def __init__(self, system: System, crowd: Crowd, stub: Stub) -> None:
        self.system = system
        self.crowd = crowd
        self._stub = stub
        self._idle_share: dict[str, float] = {}

    async def measure_idle(self, seconds: float) -> None:
        """Take what is used in *seconds* of silence for what is used without any turn."""
        await anyio.sleep(QUIET_AFTER_S)
        before = self._usage()
        await anyio.sleep(seconds)
        after = self._usage()
        self._idle_share = {
            part: used / (after.at_s - before.at_s) for part, used in _used(before, after).items()
        }

    async def run(self, load: Load, turns: int, *, seed: int, progress: Progress) -> Level:
        """Offer *load* until *turns* messages were sent, and wait for their replies."""
        await run_sync(self._answer, load)
        await self._acquaint(load.users, progress)
        await run_sync(self._answer, load)
        before, counted = self._usage(), await run_sync(self.system.histograms)
        starved, (busy_s, _) = self.crowd.starved, machine_times()
        said: list[Turn] = []
        async for turn in self.crowd.offer(load.rate, turns, seed=seed):
            said.append(turn)
            progress(f"{self.system.name} {load.rate:g}/s: {len(said)} of {turns} turns")
        await self.crowd.settle()
        await anyio.sleep(SETTLE_S)
        after, (busy_after_s, _) = self._usage(), machine_times()
        used = _used(before, after)
        asked = await run_sync(self._stub.asked)
        errors = _errors(said, self.crowd.starved - starved)
        took_s = after.at_s - before.at_s
        return Level(
            load=load,
            times_ms=_times_ms(said, asked),
            errors=errors,
            turns=sum(turn.done_s is not None for turn in said),
            took_s=took_s,
            cpu_s={
                part: max(0.0, seconds - self._idle_share.get(part, 0.0) * took_s)
                for part, seconds in used.items()
            },
            others_cpu_s=max(0.0, busy_after_s - busy_s - sum(used.values())),
            rss_mb={part: round(held / MEGABYTE, 1) for part, held in after.rss_bytes.items()},
            histograms=since(await run_sync(self.system.histograms), counted),
        )

    async def _acquaint(self, users: int, progress: Progress) -> None:
        """Have *users* users of whom none is new: a first message costs more than others."""
        new = users - len(self.crowd.users)
        if new > 0:
            progress(f"{self.system.name}: {new} users say their first message")
            await self.crowd.grow(users)
            async for _ in self.crowd.offer(FIRST_MESSAGES_PER_S, users, seed=-users):
                pass
            await self.crowd.settle()

    def _answer(self, load: Load) -> None:
        self._stub.answer(
            tokens=load.tokens, first_token_ms=load.first_token_ms, token_ms=load.token_ms
        )

    def _usage(self) -> Usage:
        """Of the server's parts, the stub, and this process."""
        found = self.system.usage()
        stub = self._stub.usage()
        found.cpu_s["stub"] = sum(stub.cpu_s.values())
        found.cpu_s["generator"] = time.process_time()
        return found


def stalls(level: Level) -> dict[str, float]:
    """How often the event loop woke a sleeper late; seconds. Empty where it is not counted."""
    lag = level.histograms.get("tandem_event_loop_lag_seconds")
    if lag is None:
        return {}
    counts = {f"over_{bound * 1000:g}_ms": lag.over(bound) for bound in LAG_BOUNDS_S}
    return {"samples": lag.count, **counts, "max_bucket_s": lag.max_bound}


def _used(before: Usage, after: Usage) -> dict[str, float]:
    return {part: used - before.cpu_s.get(part, 0.0) for part, used in after.cpu_s.items()}


def _errors(said: list[Turn], starved: int) -> dict[str, int]:
    errors = {"starved": starved} if starved else {}
    for turn in said:
        if turn.error is not None:
            errors[turn.error] = errors.get(turn.error, 0) + 1
    return errors


def _times_ms(said: list[Turn], asked: Mapping[str, Asked]) -> dict[str, list[float]]:
    """The figures of all turns that ended well, in milliseconds."""
    times: dict[str, list[float]] = {}

    def note(name: str, begun_s: float | None, ended_s: float | None) -> None:
        if begun_s is not None and ended_s is not None:
            times.setdefault(name, []).append((ended_s - begun_s) * 1000)

    for turn in said:
        note("generator_late", turn.due_s, turn.sent_s)
        if turn.error is not None:
            continue
        note("send_to_accepted", turn.sent_s, turn.accepted_s)
        for stage, took_ms in turn.timings_ms.items():
            times.setdefault(stage, []).append(took_ms)
        request = asked.get(turn.text)
        if request is None:
            continue
        note("send_to_request", turn.sent_s, request.received_s)
        note("byte_to_delta", request.first_token_s, turn.first_delta_s)
        if request.ended_s is not None and turn.done_s is not None:
            model_s = request.ended_s - request.received_s
            note("beyond_model", turn.sent_s + model_s, turn.done_s)
    return times
