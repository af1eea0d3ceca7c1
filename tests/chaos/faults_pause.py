"""Chroma or Redis stands still, or stays away for long."""

from __future__ import annotations

import os
import signal
import time
from typing import Final

import redis

from tests.chaos.chroma_child import wait_healed
from tests.chaos.fault import Fault, Place, kept, refusals
from tests.chaos.logbook import Accepted, Done
from tests.chaos.scene import Stage
from tests.chaos.world import set_mode

STOPPED_S: Final = 30.0
AWAY_S: Final = 60.0
HUNG_REDIS_S: Final = 10.0
SHORT_S: Final = 7.0
"""Longer than the five seconds for which the store is waited for."""


def stopped_chroma(place: Place) -> str:
    """SIGSTOP: what was on its way is ``store_unknown``, and sent again it is stored once."""
    told: dict[str, int] = {}
    back_s = 0.0

    def fault(stage: Stage) -> None:
        nonlocal told, back_s
        pid = stage.world.kill_chroma(signal.SIGSTOP)
        began = time.monotonic()
        try:
            time.sleep(SHORT_S if place.short else STOPPED_S)
        finally:
            go_on(pid)
        ended = time.monotonic()
        told = refusals(stage.entries(), began, ended)
        back_s = stage.wait_accepted(ended)

    books = place.scene().play(fault)
    assert told.get("store_unknown"), f"nobody was told that it is unknown: {told}"
    return f"told {told}; accepting again {back_s:.2f} s afterwards; {kept(books)}"


def go_on(pid: int) -> None:
    """SIGCONT, if it is there still: who hangs for too long is replaced."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def absent_chroma(place: Place) -> str:
    """Chroma stays away while replies are being made: they are shown, and stored later."""
    waited = 0

    def fault(stage: Stage) -> None:
        nonlocal waited
        set_mode(stage.model, tokens=120, token_ms=15)
        stage.wait_accepted(time.monotonic())
        time.sleep(1.0)  # replies are in the middle
        began = time.monotonic()
        keep_away(stage, SHORT_S if place.short else AWAY_S)
        ended = time.monotonic()
        entries = stage.entries()
        assert not any(isinstance(e, Accepted) and began + 1 < e.t < ended for e in entries)
        shown = [e for e in entries if isinstance(e, Done) and began < e.t]
        assert shown, "no reply came to its end while the store was away"
        waited = len(shown)
        stage.wait_accepted(ended)

    books = place.scene().play(fault)
    return f"{waited} replies were shown to their end meanwhile; {kept(books)}"


def keep_away(stage: Stage, seconds: float) -> None:
    """Kill the Chroma child, and each one that follows it, for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stage.world.kill_chroma()
        time.sleep(0.02)


def crashed_chroma(place: Place) -> str:
    """SIGSEGV, as damaged indexes cause it: another one is there, and nobody disconnected."""
    figures: list[float] = []

    def fault(stage: Stage) -> None:
        for _ in range(1 if place.short else 3):
            crashed_at = time.monotonic()
            stage.world.kill_chroma(signal.SIGSEGV)
            figures.append(stage.wait_accepted(crashed_at))
        wait_healed(stage.world, time.monotonic())

    books = place.scene().play(fault)
    return f"accepting again after {max(figures):.2f} s at most; {kept(books)}"


def sick_redis(place: Place) -> str:
    """Redis is killed, flushed, and stands still: nobody is refused, nothing is missing."""
    refused: dict[str, int] = {}

    def fault(stage: Stage) -> None:
        nonlocal refused
        socket = str(stage.world.data_dir / "redis" / "redis.sock")
        began = time.monotonic()
        for _ in range(3):
            with redis.Redis(unix_socket_path=socket) as client:
                client.flushall()
            stage.wait_accepted(time.monotonic())
        stage.world.server.kill_child("redis")
        stage.wait_accepted(time.monotonic())
        time.sleep(1.0)
        pid = stage.world.server.child_pid("redis")
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(2.0 if place.short else HUNG_REDIS_S)
            stage.wait_accepted(time.monotonic())
        finally:
            go_on(pid)
        stage.wait_accepted(time.monotonic())
        refused = refusals(stage.entries(), began, time.monotonic())

    books = place.scene().play(fault)
    assert not refused, f"refused because of Redis: {refused}"
    return f"nobody was refused; {kept(books)}"


FAULTS: Final = (
    Fault("Chroma crashes (SIGSEGV)", (3,), crashed_chroma),
    Fault("Chroma stands still (SIGSTOP)", (18,), stopped_chroma),
    Fault("Chroma stays away during replies", (1,), absent_chroma),
    Fault("Redis flushed, killed, hung", (10,), sick_redis),
)
