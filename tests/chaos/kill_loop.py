"""Random ``kill -9`` under load, and what is left of the promises afterwards."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import httpx
import msgspec

from tests.chaos.history import Finding
from tests.chaos.logbook import Accepted
from tests.chaos.scene import BACK_WITHIN_S, TOKEN_MS, Scene, Stage
from tests.chaos.world import set_mode, wait_until

Victim = Literal["chroma", "server", "everything"]

WHOLE: Final[tuple[Victim, Victim]] = ("server", "everything")
"""The server alone, whose children then end by their own rule; or all of them at once."""
USERS: Final = 8
PER_SECOND: Final = 50.0
CALM_S: Final = (0.1, 1.2)
"""Between the return of the service and the next kill."""
AGAIN: Final = 0.1
"""The share of kills that are followed by another one before the service is back."""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """One kill: seconds until a message that was sent afterwards was accepted, and until the
    server said that it is ready; ``None`` for what was not waited for.
    """

    victim: Victim
    accepted_s: float | None = None
    ready_s: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a loop has shown."""

    seed: int
    kills: list[Kill]
    accepted: int
    records: int
    took_s: float
    findings: list[Finding]


class KillLoop:
    """The killer, half of whose victims are the Chroma child, and half the whole server."""

    def __init__(self, kills: int, *, seed: int) -> None:
        self._number = kills
        self._seed = seed
        self._random = random.Random(seed)
        self._kills: list[Kill] = []

    def run(self, folder: Path, model_folder: Path) -> Outcome:
        """Kill while users talk; then compare the books."""
        began = time.monotonic()
        scene = Scene(folder, model_folder, seed=self._seed, users=USERS, per_second=PER_SECOND)
        books = scene.play(self._kill_all)
        return Outcome(
            seed=self._seed,
            kills=self._kills,
            accepted=sum(isinstance(entry, Accepted) for entry in books.entries),
            records=len(books.records),
            took_s=round(time.monotonic() - began, 1),
            findings=books.findings,
        )

    def _kill_all(self, stage: Stage) -> None:
        for number in range(self._number):
            stage.wait_accepted(time.monotonic())
            time.sleep(self._random.uniform(*CALM_S))
            if number % 2:
                self._kills.append(self._kill_server(stage))
            else:
                self._kills.append(self._kill_chroma(stage))
            tell(self._kills, self._number)
            if number % 10 == 0:
                set_mode(stage.model, tokens=self._random.choice((3, 12, 60)), token_ms=TOKEN_MS)

    def _kill_chroma(self, stage: Stage) -> Kill:
        killed_at = time.monotonic()
        stage.world.kill_chroma()
        if self._random.random() < AGAIN:
            time.sleep(self._random.uniform(0.0, 0.5))
            return Kill(victim="chroma")
        return Kill(victim="chroma", accepted_s=round(stage.wait_accepted(killed_at), 3))

    def _kill_server(self, stage: Stage) -> Kill:
        victim = self._random.choice(WHOLE)
        killed_at = time.monotonic()
        stage.world.kill_server(children=victim == "everything")
        stage.world.start(ready=False)
        ready_s = wait_ready(stage.world.url, killed_at)
        accepted_s = stage.wait_accepted(killed_at)
        return Kill(victim=victim, accepted_s=round(accepted_s, 3), ready_s=round(ready_s, 3))


def wait_ready(url: str, since: float) -> float:
    """Seconds from *since* until the server says that it is ready."""

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    wait_until(ready, BACK_WITHIN_S, "the server did not become ready")
    return time.monotonic() - since


def tell(kills: list[Kill], number: int) -> None:
    """Write where the loop is."""
    if sys.stderr.isatty() or len(kills) % 10 == 0:
        last = kills[-1]
        end = "" if sys.stderr.isatty() else "\n"
        sys.stderr.write(
            f"\r  kill {len(kills)} of {number}: {last.victim}, "
            f"accepting again after {last.accepted_s} s      {end}"
        )
        sys.stderr.flush()


def median_and_most(values: list[float]) -> str:
    """The two figures that are reported of recoveries, in seconds."""
    if not values:
        return "-"
    return f"p50 {sorted(values)[len(values) // 2]:.2f} s, most {max(values):.2f} s"


def summary(outcome: Outcome, write: Callable[[str], object]) -> None:
    """Tell *outcome* in a few lines."""
    write(
        f"{len(outcome.kills)} kills in {outcome.took_s:.0f} s, seed {outcome.seed}: "
        f"{outcome.accepted} messages accepted, {outcome.records} records, "
        f"{len(outcome.findings)} broken promises\n"
    )
    victims: tuple[Victim, ...] = ("chroma", "server", "everything")
    for victim in victims:
        of = [kill for kill in outcome.kills if kill.victim == victim]
        accepted = median_and_most([kill.accepted_s for kill in of if kill.accepted_s])
        ready = median_and_most([kill.ready_s for kill in of if kill.ready_s])
        write(f"  {victim:<10} {len(of):>4}  accepting again: {accepted}; ready: {ready}\n")
    for finding in outcome.findings[:40]:
        write(f"  BROKEN {finding.kind}: {finding.subject}: {finding.detail}\n")
