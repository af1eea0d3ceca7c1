"""Scenes of the wire: broken lines by the hundred, and what else happens while lines break."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import redis

from tests.chaos.fault import Fault, Place
from tests.chaos.faults_pause import go_on
from tests.chaos.wire_campaign import Campaign, Ground, Report, ground, new_nonce
from tests.chaos.wire_check import Finding
from tests.chaos.wire_plan import moment_plans, plan_of

RUNS: Final = 1_000
SHORT_RUNS: Final = 40
WAVE: Final = 24
"""So many runs at a time while something happens."""
CALM_S: Final = 1.0
"""From one of these things to the next."""
PAUSED_S: Final = 5.0
WORKERS: Final = {"TANDEM_SERVER__WORKERS": "2"}

Deed = Callable[[Ground], None]


def held(report: Report) -> str:
    """What was seen; ``AssertionError`` where a promise was broken."""
    told = "; ".join(
        f"{name}: {finding.kind}: {finding.subject}: {finding.detail}"
        for name, findings in list(report.broken.items())[:10]
        for finding in findings[:3]
    )
    assert not report.broken, f"{len(report.broken)} runs broken: {told}"
    return report.said()


def seeded_runs(
    folder: Path,
    model_folder: Path,
    seeds: Sequence[int],
    *,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Random schedules of faults, one for each of *seeds*, each over a short conversation of a
    user of its own. *say* hears of each run that is broken.
    """

    def broken(name: str, findings: list[Finding]) -> None:
        told = "; ".join(f"{it.kind}: {it.subject}: {it.detail}" for it in findings[:5])
        say(f"BROKEN    {name}: {told}")

    environment = {"TANDEM_SERVER__WORKERS": str(workers)} if workers > 1 else None
    plans = [plan_of(seed, new_nonce()) for seed in seeds]
    with ground(folder, model_folder, environment) as here:
        return anyio.run(Campaign(here, on_broken=broken).run, plans)


def broken_lines(place: Place, *, workers: int = 1) -> str:
    """Seeded runs against a server of one process, or of several."""
    seeds = range(SHORT_RUNS if place.short else RUNS)
    return held(seeded_runs(place.folder, place.model_folder, seeds, workers=workers))


def each_moment(place: Place) -> str:
    """Each fault of a line at each moment of a turn, and of the replay after a cut."""
    with ground(place.folder, place.model_folder) as here:
        return held(anyio.run(Campaign(here).run, moment_plans(new_nonce())))


def while_it_happens(
    place: Place,
    deed: Deed,
    *,
    environment: Mapping[str, str] | None = None,
    crashed: bool = False,
    forgetful: bool = False,
) -> Report:
    """Wave after wave of broken lines until *deed* returns, and one more afterwards."""
    with ground(place.folder, place.model_folder, environment) as here:
        make = partial(Campaign, here, crashed=crashed, forgetful=forgetful)
        return anyio.run(_waves, here, deed, make)


async def _waves(here: Ground, deed: Deed, make: Callable[[], Campaign]) -> Report:
    done = threading.Event()
    failures: list[AssertionError] = []
    reports: list[Report] = []

    def act() -> None:
        try:
            deed(here)
        except AssertionError as failure:
            failures.append(failure)
        finally:
            done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, act)
        last = False
        while not last:
            last = done.is_set()
            nonce, first = new_nonce(), len(reports) * WAVE
            plans = [plan_of(seed, nonce) for seed in range(first, first + WAVE)]
            reports.append(await make().run(plans))
    if failures:
        raise failures[0]
    return summed_up(reports)


def summed_up(reports: list[Report]) -> Report:
    """All of them as one."""
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for report in reports:
        faults.update(report.faults)
        counts.update(report.counts)
    return Report(
        runs=sum(report.runs for report in reports),
        broken={name: found for report in reports for name, found in report.broken.items()},
        faults=dict(faults),
        counts=dict(counts),
        took_s=sum(report.took_s for report in reports),
    )


def redis_socket(here: Ground) -> str:
    """The private Redis, asked directly."""
    return str(here.world.data_dir / "redis" / "redis.sock")


def flushed_redis(place: Place, environment: Mapping[str, str] | None = None) -> str:
    """Redis is emptied again and again: nobody notices more than a fresh start."""
    times = 3 if place.short else 15

    def deed(here: Ground) -> None:
        with redis.Redis(unix_socket_path=redis_socket(here)) as client:
            for _ in range(times):
                time.sleep(CALM_S)
                client.flushall()

    several = environment is not None  # who makes which reply is in Redis, too
    report = while_it_happens(place, deed, environment=environment, forgetful=several)
    return f"flushed {times} times; {held(report)}"


def paused_redis(place: Place, environment: Mapping[str, str] | None = None) -> str:
    """Redis stands still for five seconds, and goes on."""
    times = 1 if place.short else 3

    def deed(here: Ground) -> None:
        with redis.Redis(unix_socket_path=redis_socket(here)) as client:
            pid = int(client.info("server")["process_id"])
        for _ in range(times):
            time.sleep(CALM_S)
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(PAUSED_S)
            finally:
                go_on(pid)

    report = while_it_happens(place, deed, environment=environment)
    return f"paused {times} times for {PAUSED_S:.0f} s; {held(report)}"


def killed_server(place: Place) -> str:
    """The server is killed in the middle of everything, and started again."""
    times = 1 if place.short else 5

    def deed(here: Ground) -> None:
        for number in range(times):
            time.sleep(2 * CALM_S)
            here.world.kill_server(children=number % 2 == 1)
            here.world.start()
        time.sleep(CALM_S)

    report = while_it_happens(place, deed, crashed=True)
    return f"killed {times} times; {held(report)}"


FAULTS: Final = (
    Fault("wire: broken lines", (15,), broken_lines),
    Fault("wire: each fault at each moment", (15,), each_moment),
    Fault("wire: Redis flushed", (10,), flushed_redis),
    Fault("wire: Redis paused for 5 s", (10,), paused_redis),
    Fault("wire: the server is killed", (13,), killed_server),
)
