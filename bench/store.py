"""The store beside plain Chroma used naively: ``python bench/store.py [--quick]``.

Durable appends at a steady rate and flat out, what an append takes as the store grows, RAM and open
files with thousands of users. Naive: a collection for each user, one ``add`` for a message.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import anyio
import msgspec
import structlog

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it may be run as a script, from any folder

from bench.report import circumstances, save, table  # noqa: E402
from bench.store_levels import (  # noqa: E402
    Size,
    Waits,
    fill,
    flat_out,
    probe,
    size,
    steady,
    warm,
)
from bench.store_systems import Made, Store, open_naive, open_tandem  # noqa: E402

RATE = 300.0
USERS = 10_000
SIZES = (1_000, 10_000, 50_000, 100_000, 200_000)


class Plan(msgspec.Struct, kw_only=True):
    """How much is measured; seconds are of each store."""

    steady_s: float = 20.0
    flat_out_s: float = 10.0
    sizes: tuple[int, ...] = SIZES
    naive_growth_s: float = 240.0
    users: int = USERS
    naive_users: int = 400
    """Each costs a few MB."""
    shards: int = 1


QUICK = Plan(
    steady_s=4.0,
    flat_out_s=3.0,
    sizes=(1_000, 3_000, 6_000),
    naive_growth_s=15.0,
    users=1_000,
    naive_users=60,
)


class StoreReport(msgspec.Struct, kw_only=True):
    """One store. ``growth``: an append with nobody else about, by the size of the store;
    ``restarted``: the same, at the last size, after Chroma was started anew.
    """

    steady: Waits
    flat_out: Waits
    growth: dict[int, Waits] = {}
    restarted: Waits | None = None
    few: Size
    many: Size

    def for_users(self, users: int) -> Size:
        """RAM and files with so many users, along the line through what was measured."""
        if self.many.users in {users, self.few.users}:
            return self.many
        times = (users - self.few.users) / (self.many.users - self.few.users)
        mb = self.few.rss_mb + times * (self.many.rss_mb - self.few.rss_mb)
        files = self.few.files + times * (self.many.files - self.few.files)
        return Size(users=users, rss_mb=round(mb, 1), files=round(files))


class Report(msgspec.Struct, kw_only=True):
    """A whole run."""

    made_at: str
    circumstances: dict[str, str]
    plan: Plan
    stores: dict[str, StoreReport]


async def grow(store: Store, plan: Plan, *, seconds: float) -> dict[int, Waits]:
    """An append's time at each size that is reached in time."""
    made = Made()
    await warm(store, made)
    found = {made.count: await probe(store, made)}
    until_s = time.perf_counter() + seconds
    for records in plan.sizes:
        if not await fill(store, made, up_to=records, until_s=until_s):
            break
        found[records] = await probe(store, made)
        print(f"  {store.name}: {records:,} records, {found[records].p50_ms} ms", flush=True)
    return found


async def measure_tandem(plan: Plan, folder: Path) -> StoreReport:
    async with open_tandem(folder / "turns", shards=plan.shards) as store:
        made = Made()
        await warm(store, made)
        even = await steady(store, made, rate=RATE, seconds=plan.steady_s)
        fast = await flat_out(store, made, seconds=plan.flat_out_s)
    async with open_tandem(folder / "users", shards=plan.shards) as store:
        made = Made()
        few = await size(store, made, users=plan.users // 10, until_s=time.perf_counter() + 600)
        many = await size(store, made, users=plan.users, until_s=time.perf_counter() + 600)
    async with open_tandem(folder / "growth", shards=plan.shards) as store:
        growth = await grow(store, plan, seconds=3600)
    async with open_tandem(folder / "growth", shards=plan.shards) as store:
        made = Made()
        made.count = 10 * max(plan.sizes)  # ids that are not taken
        await store.append(*made.next(0))
        restarted = await probe(store, made)
    return StoreReport(
        steady=even, flat_out=fast, growth=growth, restarted=restarted, few=few, many=many
    )


async def measure_naive(plan: Plan, folder: Path) -> StoreReport:
    async with open_naive(folder / "turns") as store:
        made = Made()
        await warm(store, made)
        even = await steady(store, made, rate=RATE, seconds=plan.steady_s)
        fast = await flat_out(store, made, seconds=plan.flat_out_s)
    async with open_naive(folder / "users") as store:
        made = Made()
        until_s = time.perf_counter() + plan.naive_growth_s
        few = await size(store, made, users=plan.naive_users // 10, until_s=until_s)
        many = await size(store, made, users=plan.naive_users, until_s=until_s)
    async with open_naive(folder / "growth") as store:
        growth = await grow(store, plan, seconds=plan.naive_growth_s)
    return StoreReport(steady=even, flat_out=fast, growth=growth, few=few, many=many)


def text(report: Report) -> str:
    """A whole run for a terminal."""
    ours, naive = report.stores["tandem"], report.stores["naive"]

    def row(name: str, mine: float, theirs: float, aim: str = "") -> tuple[str, ...]:
        ratio = f"{theirs / mine:.1f}" if mine else ""
        return name, f"{mine:,.1f}", f"{theirs:,.1f}", ratio, aim

    users = report.plan.users
    late = [
        f"{name}: {it.steady.missing:,} of {it.steady.records + it.steady.missing:,} records were "
        "not stored in twice the time, and are in no figure"
        for name, it in report.stores.items()
        if it.steady.missing
    ]
    big, their_big = ours.for_users(users), naive.for_users(users)
    rows = [
        row(f"{RATE:g} records/s: p50 ms", ours.steady.p50_ms, naive.steady.p50_ms, "<= 20"),
        row(f"{RATE:g} records/s: p95 ms", ours.steady.p95_ms, naive.steady.p95_ms, "<= 40"),
        row(f"{RATE:g} records/s: stored a second", ours.steady.rate, naive.steady.rate),
        row(f"{RATE:g} records/s: CPU-ms a record", ours.steady.cpu_ms, naive.steady.cpu_ms),
        row("flat out: records/s", ours.flat_out.rate, naive.flat_out.rate, ">= 1,000"),
        row("flat out: CPU-ms a record", ours.flat_out.cpu_ms, naive.flat_out.cpu_ms),
        row(f"Chroma's MB with {users:,} users", big.rss_mb, their_big.rss_mb),
        row(f"Chroma's files with {users:,} users", big.files, their_big.files),
    ]
    growth = [
        (f"{records:,}", _times(ours.growth.get(records)), _times(naive.growth.get(records)))
        for records in sorted({*ours.growth, *naive.growth})
    ]
    if ours.restarted is not None:
        growth.append((f"{max(ours.growth):,}, Chroma restarted", _times(ours.restarted), ""))
    return "\n\n".join(
        [
            table(("", "tandem", "naive", "naive/tandem", "aim"), rows),
            *late,
            f"naive's MB and files are extrapolated from {naive.many.users} users",
            table(("records; lone append, p50 / p95 ms", "tandem", "naive"), growth),
            _growth(ours.growth[min(ours.growth)], ours.growth[max(ours.growth)]),
        ]
    )


def _times(waits: Waits | None) -> str:
    return f"{waits.p50_ms:.1f} / {waits.p95_ms:.1f}" if waits else "not reached"


def _growth(first: Waits, last: Waits) -> str:
    p50, p95 = last.p50_ms / first.p50_ms, last.p95_ms / first.p95_ms
    return f"from the first size to the last: p50 x {p50:.2f}, p95 x {p95:.2f}; aim x 1.5"


async def measure(plan: Plan, folder: Path) -> Report:
    facts = circumstances()
    stores = {
        "tandem": await measure_tandem(plan, folder / "tandem"),
        "naive": await measure_naive(plan, folder / "naive"),
    }
    return Report(
        made_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        circumstances=facts,
        plan=plan,
        stores=stores,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short form, about a minute")
    parser.add_argument("--shards", type=int, default=1, help="of Tandem's store")
    given = parser.parse_args()
    plan = QUICK if given.quick else Plan()
    plan.shards = given.shards
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        report = anyio.run(
            partial(measure, plan, Path(folder)), backend_options={"use_uvloop": True}
        )
    print(text(report))
    print(f"kept in {save(report, 'store').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
