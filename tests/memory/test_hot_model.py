from __future__ import annotations

import tempfile
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memory import hot_completion
from memory.hot import HotMemories
from memory.hot_entries import IDLE_S
from memory.messages import Message, UserId
from tests.memory.hot_world import ADA, BEN, VECTOR, Clock, Store, held, said
from tests.memory.warm_world import process

MARKS = ["forget message", "undo", "forget elsewhere", "undo elsewhere"]


class Machine(RuleBasedStateMachine):
    """Commits of this process and of others, messages that are forgotten here or elsewhere and that
    being undone, evictions, erasure, restarts and kills with warm copies left behind: recall equals
    the store.
    """

    users = st.sampled_from([ADA, BEN])

    @initialize(hot_messages=st.integers(2, 12))
    def start(self, hot_messages: int) -> None:
        self.hot_messages = hot_messages
        self.store = Store()
        self.clock = Clock()
        self.versions: dict[UserId, int] = {ADA: 0, BEN: 0}
        self.steps: list[tuple[str, UserId]] = []
        self.places: list[int] = []

    @rule(user=users)
    def commit(self, user: UserId) -> None:
        self.steps.append(("commit", user))

    @rule(user=users)
    def commit_elsewhere(self, user: UserId) -> None:
        self.steps.append(("elsewhere", user))

    @rule(user=users)
    def forget(self, user: UserId) -> None:
        self.steps.append(("forget", user))

    @rule(user=users, step=st.sampled_from(MARKS), place=st.integers(0, 12))
    def mark(self, user: UserId, step: str, place: int) -> None:
        self.steps.append((step, user))
        self.places.append(place)

    @rule(user=users)
    def erase(self, user: UserId) -> None:
        self.steps.append(("erase", user))

    @rule(user=users)
    def idle(self, user: UserId) -> None:
        self.steps.append(("idle", user))

    @rule(user=users)
    def restart(self, user: UserId) -> None:
        self.steps.append(("restart", user))

    @rule(user=users)
    def killed(self, user: UserId) -> None:
        self.steps.append(("killed", user))

    @rule(user=users)
    def recall(self, user: UserId) -> None:
        self.steps.append(("recall", user))

    @rule(user=users)
    def recall_during_commit(self, user: UserId) -> None:
        self.steps.append(("recall during commit", user))

    @invariant()
    def nothing_yet(self) -> None:
        """The steps run together in ``teardown``, within one event loop."""

    def teardown(self) -> None:
        anyio.run(self.run_steps)

    async def run_steps(self) -> None:
        steps = [*self.steps, ("recall", ADA), ("recall", BEN)]
        with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
            patch.setattr(hot_completion, "LEAST_MESSAGES", 0)
            folder = Path(name)
            while steps:
                async with (
                    process(
                        self.store, folder, messages=self.hot_messages, clock=self.clock
                    ) as memories,
                    anyio.create_task_group() as tasks,
                ):
                    while steps:
                        step, user = steps.pop(0)
                        if step == "restart":
                            break
                        if step == "killed":  # what is in RAM is not kept
                            patch.setattr(memories, "save_all", anyio.lowlevel.checkpoint)
                            break
                        await self.run_step(memories, tasks, step, user)

    async def run_step(
        self, memories: HotMemories, tasks: TaskGroup, step: str, user: UserId
    ) -> None:
        match step:
            case "commit":
                memories.add(self.stored(user), VECTOR, self.versions[user])
            case "elsewhere":
                self.stored(user)
            case "forget":
                memories.forget(user)
            case "erase":
                self.store.messages = [m for m in self.store.messages if m.user != user]
                memories.forget(user)
            case "forget message" | "undo" | "forget elsewhere" | "undo elsewhere":
                await self.run_mark(memories, step, user, self.places.pop(0))
            case "idle":
                self.clock.now += IDLE_S / 2
            case "recall during commit":
                self.store.gate = anyio.Event()
                answered = anyio.Event()
                tasks.start_soon(self.ask, memories, user, answered)
                while not answered.is_set() and not self.store.reading:
                    await anyio.lowlevel.checkpoint()
                memories.add(self.stored(user), VECTOR, self.versions[user])
                self.store.gate.set()
            case _:
                await self.compare(memories, user)

    async def run_mark(self, memories: HotMemories, step: str, user: UserId, place: int) -> None:
        """As ``memory.forgetting`` does; of another process only the count tells."""
        mine = [it.id for it in self.store.messages if it.user == user]
        if not mine:
            return
        chosen = mine[place % len(mine)]
        forgotten, here = step.startswith("forget"), not step.endswith("elsewhere")
        self.store.mark(chosen, forgotten=forgotten)
        self.versions[user] += 1
        if here and forgotten:
            memories.set_aside(user, chosen)
        elif here:
            memories.forget(user)
        if here:
            memories.note(user, self.versions[user])

    async def ask(self, memories: HotMemories, user: UserId, answered: anyio.Event) -> None:
        await memories.get(user, self.versions[user])
        answered.set()

    def stored(self, user: UserId) -> Message:
        self.versions[user] += 1
        message = said(self.versions[user], user)
        self.store.messages.append(message)
        return message

    async def compare(self, memories: HotMemories, user: UserId) -> None:
        found = await held(memories, user, self.versions[user])
        mine = [m.id for m in self.store.messages if m.user == user and m.recallable]
        # What was forgotten leaves room that nothing older may have been read for.
        assert sorted(found) == sorted(mine[len(mine) - len(found) :])
        away = sum(m.forgotten for m in self.store.messages if m.user == user)
        assert len(found) >= min(len(mine), self.hot_messages - away)
        assert len(found) <= self.hot_messages
        assert (await memories.get(user, None)).complete <= (len(mine) == len(found))


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestRecallEqualsTheStore = Machine.TestCase
