"""Whatever comes in whatever order: each item once, in its sender's order, nobody starved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import anyio
import anyio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import StoreBusy, StoreError, StoreRefused
from memory.group_commit import CommitPolicy, GroupCommit

SENDERS = "abc"
MAX_BATCH = 4
ROUNDS = 12
"""Of the event loop after each step: most of what was let begin has ended by then."""
POLICY = CommitPolicy(
    max_batch=MAX_BATCH, bulk_batch=2, max_waiting=60, max_waiting_each=25, linger_s=0
)
Lane = Literal["urgent", "patient", "bulk"]


class Said(NamedTuple):
    """What a sender wants written; ``number`` counts all that was submitted."""

    sender: str
    lane: Lane
    number: int


class Send(NamedTuple):
    sender: str
    lane: Lane
    items: int
    given_up: bool
    refused: bool


class Pass(NamedTuple):
    """The store writes so many batches."""

    batches: int


Step = Send | Pass
steps = st.lists(
    st.one_of(
        st.builds(
            Send,
            st.sampled_from(SENDERS),
            st.sampled_from(["urgent", "patient", "bulk"]),
            st.integers(1, 12),
            st.booleans(),
            st.integers(0, 9).map(lambda number: number == 0),
        ),
        st.builds(Pass, st.integers(1, 3)),
    ),
    max_size=25,
)


class World:
    """A store that writes a batch when it is let, and what became of everything."""

    def __init__(self) -> None:
        self.commit: GroupCommit[str, Said, int] = GroupCommit(
            self.write,
            sender_of=lambda said: said.sender,
            policy=POLICY,
            gate=self.gate,
            on_batch=lambda _items: self.begin(),
        )
        self.permits = anyio.Semaphore(0)
        self.free = False
        self.begun = 0
        self.written: list[tuple[int, Said]] = []
        self.refused: set[Said] = set()
        self.latest: dict[Said, int] = {}
        """The last batch in which an urgent item may be."""
        self.waiting: list[Said] = []
        """Single items of which no batch was made yet."""
        self.outcomes: dict[Said, list[int | StoreError]] = {}
        self.left: set[Said] = set()
        self.count = 0

    def begin(self) -> None:
        self.begun += 1

    async def gate(self) -> None:
        if not self.free:
            await self.permits.acquire()

    async def write(self, _key: str, batch: Sequence[Said]) -> list[int | StoreError]:
        self.waiting = [said for said in self.waiting if said not in batch]
        await anyio.lowlevel.checkpoint()
        if self.refused & set(batch):
            raise StoreRefused("no")
        self.written += [(self.begun, said) for said in batch]
        return [said.number for said in batch]

    def make(self, send: Send) -> Said:
        said = Said(send.sender, send.lane, self.count)
        self.count += 1
        if send.given_up:
            self.left.add(said)
        elif send.refused:
            self.refused.add(said)
        return said

    async def submit(self, said: Said) -> None:
        own = sum(waiting.sender == said.sender for waiting in self.waiting)
        latest = self.begun + math.ceil((own + 1) * len(SENDERS) / MAX_BATCH)
        patience_s = 0.001 if said.lane == "patient" else 0
        self.waiting.append(said)
        if said.lane == "urgent":
            self.latest[said] = latest
        try:
            outcome: int | StoreError = await self.commit.submit("key", said, patience_s=patience_s)
        except StoreBusy as busy:
            self.latest.pop(said, None)
            self.waiting = [it for it in self.waiting if it != said]
            outcome = busy
        except StoreError as error:
            outcome = error
        self.outcomes.setdefault(said, []).append(outcome)

    async def submit_many(self, batch: list[Said]) -> None:
        try:
            outcomes = await self.commit.submit_many("key", batch)
        except StoreBusy as busy:
            outcomes = [busy] * len(batch)
        for said, outcome in zip(batch, outcomes, strict=True):
            self.outcomes.setdefault(said, []).append(outcome)


async def live(world: World, plan: list[Step]) -> None:
    async with anyio.create_task_group() as work:
        await work.start(world.commit.run)
        async with anyio.create_task_group() as callers, anyio.create_task_group() as given_up:
            for step in plan:
                if isinstance(step, Pass):
                    for _ in range(step.batches):
                        world.permits.release()
                else:
                    tasks = given_up if step.given_up else callers
                    batch = [world.make(step) for _ in range(step.items)]
                    if step.lane == "bulk":
                        tasks.start_soon(world.submit_many, batch)
                    else:
                        for said in batch:
                            tasks.start_soon(world.submit, said)
                for _ in range(ROUNDS):
                    await anyio.lowlevel.checkpoint()
            given_up.cancel_scope.cancel()
            world.free = True
            for _ in range(2):
                world.permits.release()
        work.cancel_scope.cancel()


@settings(deadline=None, max_examples=120)
@given(steps)
def test_each_is_written_once_in_its_senders_order_and_soon(plan: list[Step]) -> None:
    async def run() -> World:
        world = World()
        with anyio.fail_after(60):
            await live(world, plan)
        return world

    world = anyio.run(run)
    assert world.commit.waiting == 0
    written = [said for _, said in world.written]
    assert len(set(written)) == len(written)
    for said, outcomes in world.outcomes.items():
        (outcome,) = outcomes
        if isinstance(outcome, StoreError):
            assert said not in written
            assert isinstance(outcome, StoreBusy) or said in world.refused
        else:
            assert outcome == said.number
            assert said in written
    assert set(written) <= world.outcomes.keys() | world.left
    for sender in SENDERS:
        for lanes in ({"urgent"}, {"patient"}, {"bulk"}):
            numbers = [it.number for it in written if it.sender == sender and it.lane in lanes]
            assert numbers == sorted(numbers)
    for batch, said in world.written:
        assert batch <= world.latest.get(said, math.inf)


async def test_a_sender_with_a_thousand_waiting_does_not_delay_another() -> None:
    batches: list[list[str]] = []

    async def write(_key: str, batch: Sequence[str]) -> list[None]:
        batches.append([*batch])
        await anyio.lowlevel.checkpoint()
        return [None] * len(batch)

    opened = anyio.Event()
    commit: GroupCommit[str, str, None] = GroupCommit(
        write,
        sender_of=lambda item: item[0],
        policy=CommitPolicy(max_batch=10, max_waiting_each=1_000),
        gate=opened.wait,
    )
    async with anyio.create_task_group() as work:
        await work.start(commit.run)
        async with anyio.create_task_group() as callers:
            for number in range(1_000):
                callers.start_soon(commit.submit, "key", f"a{number}")
            await anyio.wait_all_tasks_blocked()
            callers.start_soon(commit.submit, "key", "b")
            await anyio.wait_all_tasks_blocked()
            assert commit.waiting == 1_001
            assert batches == []
            opened.set()
        work.cancel_scope.cancel()
    assert "b" in batches[0]
    assert [item for batch in batches for item in batch if item != "b"] == [
        f"a{number}" for number in range(1_000)
    ]
