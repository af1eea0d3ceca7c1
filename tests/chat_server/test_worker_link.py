from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest

from chat_server import worker_link
from chat_server.figures import Figures
from chat_server.readiness import Readiness
from chat_server.worker_line import Line
from chat_server.worker_link import WorkerLink
from chat_server.worker_messages import (
    Asked,
    Beat,
    Done,
    Entered,
    Forget,
    Gather,
    Gathered,
    Healed,
    Hold,
    LetGo,
    LookAtLedger,
    Message,
    StoreState,
    Suspected,
    Welcome,
)
from chat_server.workforce import Workforce
from memory import store_gate
from memory.errors import ChildFailed, LineBroken
from memory.messages import MessageId, UserId
from memory.upkeep.erasure_door import ErasureDoor
from memory.upkeep.keeper import HealingProgress

OTHER = Figures(slot=1, pid=2, since=0.0)
ADA = UserId("ada")


class Supervisor:
    """The other end: keeps what it is told."""

    def __init__(self, end: socket.socket) -> None:
        self.line = Line(end, self._said)
        self.heard: list[Message] = []
        self.answers_entered = True

    async def _said(self, message: Message) -> Message | None:
        self.heard.append(message)
        if isinstance(message, Entered) and not self.answers_entered:
            raise LineBroken("worker 1 has not looked")
        return Gathered((OTHER,)) if isinstance(message, Gather) else None

    async def hear(self, message: Message) -> None:
        while message not in self.heard:
            await anyio.sleep(0.005)

    async def told(self, message: Message) -> None:
        """Return when the worker has taken in *message*."""
        self.line.tell(message)
        await self.line.ask(LookAtLedger(), 5)


class Door:
    """Stands for this worker's way to the ledger."""

    def __init__(self) -> None:
        self.looked = 0
        self.forgotten: list[object] = []

    async def refresh(self) -> None:
        self.looked += 1

    async def forget_user_here(self, user: UserId) -> None:
        self.forgotten.append(user)

    async def forget_messages_here(self, ids: Sequence[MessageId]) -> None:
        self.forgotten.append(tuple(ids))


class Work:
    """Stands for what this worker does."""

    def __init__(self) -> None:
        self.slot = 0

    def own(self) -> Figures:
        return Figures(slot=self.slot, pid=1, since=0.0)


@pytest.fixture(autouse=True)
def briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_gate, "SETTLE_S", 0.005)
    monkeypatch.setattr(worker_link, "BEAT_EVERY_S", 0.02)


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[WorkerLink, Supervisor]]:
    ours, theirs = socket.socketpair()
    link, supervisor = WorkerLink(ours, Welcome(7, 8, "00")), Supervisor(theirs)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run)
        tasks.start_soon(supervisor.line.run)
        with anyio.fail_after(10):
            yield link, supervisor
        tasks.cancel_scope.cancel()


def serve(link: WorkerLink) -> Door:
    door, readiness = Door(), Readiness([])
    link.serve(cast("Workforce", Work()), cast("ErasureDoor", door), readiness)
    return door


async def test_chroma_is_where_the_supervisor_says_and_as_it_says() -> None:
    async with linked() as (link, supervisor):
        assert link.address() == ""
        with pytest.raises(ChildFailed, match="not heard of"):
            link.check_store()
        progress = HealingProgress(collections=1, done=2, total=5)
        state = StoreState(
            address="http://a", state="ready", healing=("user_00",), progress=progress
        )
        await supervisor.told(state)
        assert link.address() == "http://a"
        assert link.check_store()
        assert link.incomplete("user_00")
        assert not link.incomplete("user_01")
        assert link.progress() == {"collections": 1, "done": 2, "total": 5}
        await supervisor.told(StoreState(address="http://b", state="held"))
        assert not link.check_store(), "for a moment, that is no loss"
        assert link.progress() is None
        await supervisor.told(StoreState(state="restarting", reason="it was killed"))
        with pytest.raises(ChildFailed, match="it was killed"):
            link.check_store()


async def test_what_it_sees_and_asks_is_told() -> None:
    async with linked() as (link, supervisor):
        link.suspect("id", "certain")
        await supervisor.hear(Suspected("id", "certain"))
        async with link.gate.request("id", "read"):
            await supervisor.hear(Asked(("id",)))


async def test_a_healed_collection_is_told_on() -> None:
    healed: list[str] = []
    async with linked() as (link, supervisor):
        link.on_healed(healed.append)
        await supervisor.told(Healed("user_00"))
    assert healed == ["user_00"]


async def test_it_says_that_it_lives_and_whether_it_serves() -> None:
    async with linked() as (link, supervisor):
        await supervisor.hear(Beat(ready=False))
        serve(link)
        await supervisor.hear(Beat(ready=True))
        await supervisor.hear(Beat(ready=True, figures=Figures(slot=7, pid=1, since=0.0)))


async def test_held_requests_wait_and_go_on_when_it_is_let_go() -> None:
    async with linked() as (link, supervisor), anyio.create_task_group() as tasks:
        passed: list[str] = []

        async def request() -> None:
            async with link.gate.request("id", "read"):
                passed.append("read")

        assert await supervisor.line.ask(Hold(1, batches_only=False), 5) == Done()
        tasks.start_soon(request)
        await anyio.sleep(0.05)
        assert passed == []
        supervisor.line.tell(LetGo(1))
        while not passed:
            await anyio.sleep(0.005)


async def test_only_batches_wait_where_only_they_are_held() -> None:
    async with linked() as (link, supervisor):
        await supervisor.line.ask(Hold(1, batches_only=True), 5)
        async with link.gate.request("id", "read"):
            pass
        with anyio.move_on_after(0.05) as waiting:
            await link.gate.batch()
        assert waiting.cancelled_caught
        await supervisor.told(LetGo(1))
        await link.gate.batch()


async def test_a_hold_is_done_only_when_nothing_is_under_way() -> None:
    async with linked() as (link, supervisor), anyio.create_task_group() as tasks:
        settled = anyio.Event()

        async def hold() -> None:
            await supervisor.line.ask(Hold(1, batches_only=False), 5)
            settled.set()

        async with link.gate.request("id", "write"):
            tasks.start_soon(hold)
            await anyio.sleep(0.05)
            assert not settled.is_set()
        await settled.wait()
        supervisor.line.tell(LetGo(1))


async def test_a_hold_that_was_given_up_before_it_began_holds_nothing() -> None:
    async with linked() as (link, supervisor):
        await supervisor.told(LetGo(3))
        await supervisor.line.ask(Hold(3, batches_only=False), 5)
        async with link.gate.request("id", "read"):
            pass


async def test_erasures_go_both_ways() -> None:
    async with linked() as (link, supervisor):
        with pytest.raises(LineBroken, match="only begun"):
            await supervisor.line.ask(Forget(ADA), 5)
        door = serve(link)
        await link.tell_erased()
        assert Entered() in supervisor.heard
        await supervisor.line.ask(LookAtLedger(), 5)
        assert door.looked == 1
        await supervisor.line.ask(Forget(ADA), 5)
        await supervisor.line.ask(Forget(messages=(MessageId("m1"),)), 5)
        assert door.forgotten == [ADA, (MessageId("m1"),)]
        supervisor.answers_entered = False
        with pytest.raises(LineBroken, match="not looked"):
            await link.tell_erased()


async def test_the_figures_of_others_are_asked_for_and_its_own_given() -> None:
    async with linked() as (link, supervisor):
        serve(link)
        assert await link.figures_of_others() == (OTHER,)
        answer = await supervisor.line.ask(Gather(), 5)
    assert answer == Gathered((Figures(slot=7, pid=1, since=0.0),))


async def test_without_a_supervisor_there_are_no_figures_of_others_and_that_is_known() -> None:
    ours, theirs = socket.socketpair()
    link = WorkerLink(ours, Welcome(0, 2, "00"))
    theirs.close()
    with anyio.fail_after(10):
        await link.run()
        await link.wait_broken()
        assert await link.figures_of_others() == ()
