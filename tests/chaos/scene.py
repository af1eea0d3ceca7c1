"""Users talk while something happens to the server; then the books are compared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from tests.chaos.chatter import Chatter
from tests.chaos.history import Finding, check
from tests.chaos.logbook import AnyEntry, Done, Logbook, StoredMessage, read_logs, write_store
from tests.chaos.store_files import read_files
from tests.chaos.world import World, link_model, model_environment, stub_model

BACK_WITHIN_S: Final = 60.0
"""When nothing is accepted by then, the scene ends; what is promised is less."""
LATE_WITHIN_S: Final = 30.0
"""What finished replies may take to be stored that the store would not take before."""
QUIET_S: Final = 1.0
TOKENS: Final = 12
TOKEN_MS: Final = 15


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What was said and heard, what is stored, and the promises that do not hold."""

    entries: list[AnyEntry]
    records: list[StoredMessage]
    findings: list[Finding]


class Stage:
    """What a fault acts upon; its methods block, for faults run in a thread."""

    def __init__(self, world: World, model: str, folder: Path) -> None:
        self.world = world
        self.model = model
        self.folder = folder
        self._heard = threading.Condition()
        self._last = (0.0, 0.0)

    def accepted(self, sent_at: float, accepted_at: float) -> None:
        """A user's message was accepted."""
        with self._heard:
            self._last = (sent_at, accepted_at)
            self._heard.notify_all()

    def wait_accepted(self, after: float, within_s: float = BACK_WITHIN_S) -> float:
        """Seconds from *after* until a message was accepted that was sent later than that.

        Raises:
            AssertionError: none was, in time.
        """
        with self._heard:
            came = self._heard.wait_for(lambda: self._last[0] > after, within_s)
            assert came, f"nothing was accepted within {within_s:.0f} s"
            return self._last[1] - after

    def entries(self) -> list[AnyEntry]:
        """What the users have written down so far."""
        return read_logs((self.folder / "logs").glob("*.ndjson"))


class Scene:
    """A data folder below *folder*, a server on it, the stub model, and users who talk."""

    def __init__(
        self,
        folder: Path,
        model_folder: Path,
        *,
        seed: int = 1,
        users: int = 4,
        per_second: float = 20.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """*per_second*: messages of all users in sum."""
        self._folder = folder
        self._model_folder = model_folder
        self._seed = seed
        self._users = users
        self._pace_s = users / per_second
        self._environment = dict(environment or {})

    def play(self, fault: Callable[[Stage], None]) -> Books:
        """Let *fault* happen while users talk; it ends when *fault* returns.

        Raises:
            AssertionError: what *fault* raises.
        """
        data_dir = self._folder / "data"
        (self._folder / "logs").mkdir(parents=True)
        link_model(data_dir, self._model_folder)
        with ExitStack() as stack:
            model = stack.enter_context(stub_model(tokens=TOKENS, token_ms=TOKEN_MS))
            environment = {**model_environment(model), **self._environment}
            world = World(data_dir, environment, output=self._folder / "server.log")
            stack.callback(world.abandon)
            world.start()
            stage = Stage(world, model, self._folder)
            chatters = self._chatters(stage, stack)
            anyio.run(self._talk, stage, chatters, fault)
            settle(stage)
            anyio.run(_read_again, chatters)
            world.end()
            records = read_files(data_dir)
        write_store(self._folder / "store.ndjson", records)
        entries = stage.entries()
        return Books(entries=entries, records=records, findings=check(entries, records))

    def _chatters(self, stage: Stage, stack: ExitStack) -> list[Chatter]:
        chatters = []
        for seed, (user, token) in enumerate(stage.world.tokens(self._users), 1000 * self._seed):
            file = stack.enter_context((self._folder / "logs" / f"{user}.ndjson").open("wb"))
            chatter = Chatter(
                stage.world.url,
                token,
                Logbook(file, user),
                pace_s=self._pace_s,
                seed=seed,
                on_accepted=stage.accepted,
            )
            chatters.append(chatter)
        return chatters

    @staticmethod
    async def _talk(stage: Stage, chatters: list[Chatter], fault: Callable[[Stage], None]) -> None:
        failures: list[AssertionError] = []

        def act() -> None:
            try:
                stage.wait_accepted(0.0)
                fault(stage)
                stage.wait_accepted(time.monotonic())
            except AssertionError as failure:
                failures.append(failure)

        async with anyio.create_task_group() as tasks:
            for chatter in chatters:
                tasks.start_soon(chatter.run)
            await anyio.to_thread.run_sync(act)
            if failures:
                tasks.cancel_scope.cancel()
            for chatter in chatters:
                chatter.stop()
        if failures:
            raise failures[0]


def settle(stage: Stage) -> None:
    """Wait until the replies are stored that were shown and had to wait, and nothing comes any
    more; for ``LATE_WITHIN_S`` at most.
    """
    done = {entry.run for entry in stage.entries() if isinstance(entry, Done)}
    deadline = time.monotonic() + LATE_WITHIN_S
    before = -1
    while time.monotonic() < deadline:
        ids = {record.id for record in read_files(stage.world.data_dir)}
        if done <= ids and len(ids) == before:
            return
        before = len(ids)
        time.sleep(QUIET_S)


async def _read_again(chatters: list[Chatter]) -> None:
    for chatter in chatters:
        await chatter.read_again()
