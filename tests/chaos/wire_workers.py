"""Scenes of the wire with two workers: one is killed, and what they tell each other gets lost."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Final

import redis

from tests.chaos.fault import Fault, Place
from tests.chaos.wire_campaign import Ground
from tests.chaos.wire_redis import lossy_redis
from tests.chaos.wire_scenes import (
    CALM_S,
    WORKERS,
    broken_lines,
    flushed_redis,
    held,
    paused_redis,
    redis_socket,
    while_it_happens,
)
from tests.chaos.world import wait_until

BACK_WITHIN_S: Final = 60.0
LOSE: Final = 0.01
"""The share of what workers publish to each other that does not arrive: a message now and then."""
LOSING_S: Final = 20.0


def two_workers(place: Place) -> str:
    """Broken lines, and tabs of one user at different workers."""
    return broken_lines(place, workers=2)


def killed_worker(place: Place) -> str:
    """``kill -9`` of one worker and then the other, in the middle of everything."""
    times = 2 if place.short else 10

    def deed(here: Ground) -> None:
        for number in range(times):
            time.sleep(2 * CALM_S)
            kill_worker(here, number % 2)

    report = while_it_happens(place, deed, environment=WORKERS, crashed=True)
    return f"killed {times} times; {held(report)}"


def kill_worker(here: Ground, slot: int) -> None:
    """Kill the worker in *slot*, and wait until another one was started."""
    server, name = here.world.server, f"worker-{slot}"
    pid = server.child_pid(name)
    with suppress(ProcessLookupError):  # it was being replaced
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.child_pid(name) != pid, BACK_WITHIN_S, f"{name} is not back")


def flushed(place: Place) -> str:
    """Redis is emptied: the order of events begins anew, and tabs are told (``reset``)."""
    return flushed_redis(place, WORKERS)


def paused(place: Place) -> str:
    """Redis stands still for five seconds: each worker goes on for its own connections."""
    return paused_redis(place, WORKERS)


def cut_off(place: Place) -> str:
    """The workers' lines of pub/sub are cut again and again."""
    times = 5 if place.short else 40
    cut = 0

    def deed(here: Ground) -> None:
        nonlocal cut
        with redis.Redis(unix_socket_path=redis_socket(here)) as client:
            for _ in range(times):
                time.sleep(CALM_S / 2)
                cut += int(client.client_kill_filter(_type="pubsub"))

    report = while_it_happens(place, deed, environment=WORKERS)
    assert cut, "no worker listens"
    return f"{cut} lines cut; {held(report)}"


def lost_messages(place: Place) -> str:
    """One in a hundred of the messages between workers never arrives, and nothing says so."""
    with lossy_redis(place.folder / "redis-line", lose=LOSE) as line:

        def deed(_here: Ground) -> None:
            time.sleep(LOSING_S / 4 if place.short else LOSING_S)
            line.calm()

        environment = {**WORKERS, "TANDEM_REDIS__URL": line.url}
        report = while_it_happens(place, deed, environment=environment)
        assert line.lost, "nothing was lost"
        return f"{line.lost} messages lost; {held(report)}"


FAULTS: Final = (
    Fault("wire: broken lines, two workers", (15,), two_workers),
    Fault("wire: a worker is killed", (13,), killed_worker),
    Fault("wire: Redis flushed, two workers", (10,), flushed),
    Fault("wire: Redis paused for 5 s, two workers", (10,), paused),
    Fault("wire: the lines between workers are cut", (12,), cut_off),
    Fault("wire: messages between workers are lost", (12,), lost_messages),
)
