"""Random ``kill -9`` under load, and what is left of the promises afterwards."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal

import anyio
import anyio.to_thread
import httpx
import msgspec

from tests.chaos.chatter import Chatter
from tests.chaos.history import Finding, check
from tests.chaos.logbook import Accepted, Done, Logbook, read_logs, write_store
from tests.chaos.store_files import read_files
from tests.chaos.world import World, link_model, model_environment, set_mode, stub_model

Victim = Literal["chroma", "server", "everything"]

BACK_WITHIN_S: Final = 60.0
"""When the service is not back by then, the loop ends; what is promised is less."""
LATE_WITHIN_S: Final = 30.0
"""What finished replies may take to be stored that the store would not take before."""
QUIET_S: Final = 1.0
CALM_S: Final = (0.1, 1.2)
"""Between the return of the service and the next kill."""
AGAIN: Final = 0.1
"""The share of kills that are followed by another one before the service is back."""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """One kill: seconds until a message that was sent afterwards was accepted, and until
    ``/readyz`` said so; ``None`` for a kill into a recovery, which is not waited for.
    """

    victim: Victim
    accepted_s: float | None
    ready_s: float | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a loop has shown."""

    seed: int
    kills: list[Kill]
    accepted: int
    records: int
    took_s: float
    findings: list[Finding]
    trouble: str = ""


class KillLoop:
    """Users who talk, a killer, and the books of both, in *folder*."""

    def __init__(self, folder: Path, model_folder: Path, *, seed: int) -> None:
        self._folder = folder
        self._model_folder = model_folder
        self._seed = seed
        self._random = random.Random(seed)
        self._back = anyio.Event()
        self._killed_at = 0.0
        self._accepted_at = 0.0
        self._kills: list[Kill] = []

    def run(self, *, kills: int, users: int, per_second: float) -> Outcome:
        """Kill so often while *users* say *per_second* messages in sum; then hold the books
        against the store.
        """
        began = time.monotonic()
        logs = self._folder / "logs"
        logs.mkdir(parents=True)
        data_dir = self._folder / "data"
        link_model(data_dir, self._model_folder)
        with ExitStack() as stack:
            model = stack.enter_context(stub_model(tokens=12, token_ms=15))
            world = World(data_dir, model_environment(model), output=self._folder / "server.log")
            stack.callback(world.end)
            world.start()
            chatters = self._chatters(world, logs, stack, users, users / per_second)
            trouble = anyio.run(self._talk_and_kill, world, chatters, model, kills)
            settle(world, logs)
            if not trouble:
                anyio.run(self._read_again, chatters)
            world.end()
            records = read_files(data_dir)
        write_store(self._folder / "store.ndjson", records)
        entries = read_logs(logs.glob("*.ndjson"))
        return Outcome(
            seed=self._seed,
            kills=self._kills,
            accepted=sum(isinstance(entry, Accepted) for entry in entries),
            records=len(records),
            took_s=round(time.monotonic() - began, 1),
            findings=check(entries, records),
            trouble=trouble,
        )

    def _chatters(
        self, world: World, logs: Path, stack: ExitStack, users: int, pace_s: float
    ) -> list[Chatter]:
        chatters = []
        for seed, (user, token) in enumerate(world.tokens(users), 1000 * self._seed):
            log = Logbook(stack.enter_context((logs / f"{user}.ndjson").open("wb")), user)
            chatters.append(
                Chatter(world.url, token, log, pace_s=pace_s, seed=seed, on_accepted=self._accepted)
            )
        return chatters

    def _accepted(self, sent_at: float, accepted_at: float) -> None:
        if sent_at > self._killed_at and not self._back.is_set():
            self._accepted_at = accepted_at
            self._back.set()

    async def _talk_and_kill(
        self, world: World, chatters: list[Chatter], model: str, kills: int
    ) -> str:
        async with anyio.create_task_group() as tasks:
            for chatter in chatters:
                tasks.start_soon(chatter.run)
            try:
                await self._kill_all(world, model, kills)
            except Exception as fault:  # noqa: BLE001  # told in the outcome
                tasks.cancel_scope.cancel()
                return f"{type(fault).__name__}: {fault}"[-3000:]
            for chatter in chatters:
                chatter.stop()
        return ""

    async def _kill_all(self, world: World, model: str, kills: int) -> None:
        await self._until_back()
        for number in range(kills):
            await anyio.sleep(self._random.uniform(*CALM_S))
            victim: Victim = "chroma"
            if number % 2:
                victim = self._random.choice(("server", "everything"))
            await self._kill(world, victim)
            if victim == "chroma" and self._random.random() < AGAIN and number + 1 < kills:
                await anyio.sleep(self._random.uniform(0.0, 0.5))
                self._kills.append(Kill(victim=victim, accepted_s=None, ready_s=None))
                continue
            ready_s = await self._ready(world)
            await self._until_back()
            self._kills.append(
                Kill(
                    victim=victim,
                    accepted_s=round(self._accepted_at - self._killed_at, 3),
                    ready_s=round(ready_s, 3),
                )
            )
            self._tell(kills)
            if number % 10 == 0:
                await anyio.to_thread.run_sync(
                    lambda: set_mode(model, tokens=self._random.choice((3, 12, 60)), token_ms=15)
                )

    async def _kill(self, world: World, victim: Victim) -> None:
        self._back = anyio.Event()
        self._killed_at = time.monotonic()
        if victim == "chroma":
            world.kill_chroma()
            return

        def kill_and_start() -> None:
            world.kill_server(children=victim == "everything")
            world.start(ready=False)

        await anyio.to_thread.run_sync(kill_and_start)

    async def _ready(self, world: World) -> float:
        """Seconds from the kill until the server says that it is ready."""
        await anyio.sleep(0.02)
        async with httpx.AsyncClient(timeout=2) as http:
            with anyio.fail_after(BACK_WITHIN_S):
                while True:
                    try:
                        answer = await http.get(f"{world.url}/readyz")
                    except httpx.HTTPError:
                        answer = None
                    if answer is not None and answer.status_code == httpx.codes.OK:
                        return time.monotonic() - self._killed_at
                    await anyio.sleep(0.05)

    async def _until_back(self) -> None:
        with anyio.fail_after(BACK_WITHIN_S):
            await self._back.wait()

    def _tell(self, kills: int) -> None:
        last = self._kills[-1]
        if sys.stderr.isatty() or len(self._kills) % 10 == 0:
            sys.stderr.write(
                f"\r  kill {len(self._kills)} of {kills}: {last.victim}, "
                f"accepting again after {last.accepted_s} s      "
            )
            sys.stderr.flush()

    @staticmethod
    async def _read_again(chatters: list[Chatter]) -> None:
        for chatter in chatters:
            await chatter.read_again()


def settle(world: World, logs: Path) -> None:
    """Wait until the replies are stored that were shown and had to wait, and nothing comes any
    more; for ``LATE_WITHIN_S`` at most.
    """
    done = {e.run for e in read_logs(logs.glob("*.ndjson")) if isinstance(e, Done)}
    deadline = time.monotonic() + LATE_WITHIN_S
    before = -1
    while time.monotonic() < deadline:
        ids = {record.id for record in read_files(world.data_dir)}
        if done <= ids and len(ids) == before:
            return
        before = len(ids)
        time.sleep(QUIET_S)


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
        of = [kill for kill in outcome.kills if kill.victim == victim and kill.accepted_s]
        accepted = median_and_most([kill.accepted_s for kill in of if kill.accepted_s])
        ready = median_and_most([kill.ready_s for kill in of if kill.ready_s])
        write(f"  {victim:<10} {len(of):>4}  accepting again: {accepted}; ready: {ready}\n")
    for finding in outcome.findings[:40]:
        write(f"  BROKEN {finding.kind}: {finding.subject}: {finding.detail}\n")
    if outcome.trouble:
        write(f"  ENDED EARLY {outcome.trouble}\n")
