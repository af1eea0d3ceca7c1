"""What is asked of a store under measurement, and what it took."""

from __future__ import annotations

import random
import time

import anyio
import msgspec

from bench.figures import percentile
from bench.store_systems import Made, Store, Tandem, cpu_s, open_files, rss_bytes

USERS = 100
BULK = 100
PROBES = 200
SETTLE_S = 0.5


class Waits(msgspec.Struct, kw_only=True):
    """Durable appends; times in milliseconds. ``rate``: stored in a second."""

    records: int
    missing: int = 0
    """Offered, and not stored when the measurement ended."""
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    cpu_ms: float
    """Of Chroma and of the process that asks, for a record."""


class Size(msgspec.Struct, kw_only=True):
    """What it costs to be open for *users*, each with one message."""

    users: int
    rss_mb: float
    files: int


class Watch:
    """Times and CPU from now on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cpu_s = cpu_s(store)
        self._begun_s = time.perf_counter()
        self._took_ms: list[float] = []

    def note(self, since_s: float) -> None:
        """An append that was due at *since_s* is durable."""
        self._took_ms.append((time.perf_counter() - since_s) * 1000)

    def told(self) -> Waits:
        ordered = sorted(self._took_ms)
        records = max(len(ordered), 1)
        return Waits(
            records=len(ordered),
            rate=round(len(ordered) / (time.perf_counter() - self._begun_s), 1),
            p50_ms=round(percentile(ordered, 0.5), 1),
            p95_ms=round(percentile(ordered, 0.95), 1),
            p99_ms=round(percentile(ordered, 0.99), 1),
            max_ms=round(ordered[-1], 1) if ordered else 0.0,
            cpu_ms=round((cpu_s(self._store) - self._cpu_s) * 1000 / records, 2),
        )


async def warm(store: Store, made: Made) -> None:
    """Every user has a message."""
    for user in range(USERS):
        await store.append(*made.next(user))


async def steady(store: Store, made: Made, *, rate: float, seconds: float) -> Waits:
    """Appends of random users at random times (Poisson), whether the store keeps up or not;
    each is timed from the moment at which it was due. A store that is late is waited for as long
    again.
    """
    dice = random.Random(3)
    watch = Watch(store)

    async def one(due_s: float) -> None:
        await store.append(*made.next(dice.randrange(USERS)))
        watch.note(due_s)

    offered = int(rate * seconds)
    with anyio.move_on_after(2 * seconds):
        async with anyio.create_task_group() as tasks:
            due_s = time.perf_counter()
            for _ in range(offered):
                due_s += dice.expovariate(rate)
                await anyio.sleep(max(0.0, due_s - time.perf_counter()))
                tasks.start_soon(one, due_s)
    found = watch.told()
    found.missing = offered - found.records
    return found


async def flat_out(store: Store, made: Made, *, seconds: float) -> Waits:
    """All users append one message after the other."""
    watch = Watch(store)
    until_s = time.perf_counter() + seconds

    async def talk(user: int) -> None:
        while time.perf_counter() < until_s:
            begun_s = time.perf_counter()
            await store.append(*made.next(user))
            watch.note(begun_s)

    async with anyio.create_task_group() as tasks:
        for user in range(USERS):
            tasks.start_soon(talk, user)
    return watch.told()


async def probe(store: Store, made: Made) -> Waits:
    """One append after the other, with nobody else about."""
    await anyio.sleep(SETTLE_S)
    watch = Watch(store)
    for number in range(PROBES):
        begun_s = time.perf_counter()
        await store.append(*made.next(number % USERS))
        watch.note(begun_s)
    return watch.told()


async def fill(store: Store, made: Made, *, up_to: int, until_s: float) -> bool:
    """Append until so many were made, as fast as they are taken; whether the time sufficed."""

    async def talk(user: int) -> None:
        while made.count < up_to and time.perf_counter() < until_s:
            if isinstance(store, Tandem):
                pairs = [made.next(user) for _ in range(min(BULK, up_to - made.count))]
                await store.append_many(pairs)
            else:
                await store.append(*made.next(user))

    async with anyio.create_task_group() as tasks:
        for user in range(10 if isinstance(store, Tandem) else USERS):
            tasks.start_soon(talk, user)
    return made.count >= up_to


async def size(store: Store, made: Made, *, users: int, until_s: float) -> Size:
    """Give *users* one message each, as far as time allows."""
    opened = 0
    at_once = anyio.CapacityLimiter(USERS)

    async def open_one(user: int) -> None:
        nonlocal opened
        async with at_once:
            if time.perf_counter() < until_s:
                await store.append(*made.next(user))
                opened += 1

    async with anyio.create_task_group() as tasks:
        for user in range(users):
            tasks.start_soon(open_one, user)
    return Size(
        users=opened, rss_mb=round(rss_bytes(store) / 1_000_000, 1), files=open_files(store)
    )
