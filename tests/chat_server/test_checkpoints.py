from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.checkpoints import Checkpoints
from chat_server.runs import Lane, Run
from memory.errors import ShortTermUnavailable
from memory.live.broker import NodeId, RunFacts
from memory.live.in_process_broker import Hub, InProcessBroker
from memory.messages import ConversationId, Message, MessageId, RunId, UserId

ANN = UserId("ann")


def run_of(number: int = 0) -> Run:
    question = Message(
        id=MessageId(f"m{number}"),
        user=ANN,
        conversation=ConversationId("c"),
        role="user",
        text="Hello",
        timestamp=1.0,
        depth=0,
    )
    return Run(question, Lane())


class World:
    def __init__(self) -> None:
        self.hub = Hub(clock=lambda: 0.0)
        self.broker = InProcessBroker(self.hub, NodeId("1"))
        self.checkpoints = Checkpoints(self.broker, "a model")

    async def texts(self) -> dict[str, str]:
        return {live.facts.run: live.text for live in await self.broker.runs(ANN)}


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 2), st.text("aé👍", min_size=1, max_size=4)),
            st.sampled_from(["keep", "away", "lost"]),
        ),
        max_size=30,
    )
)
async def test_whatever_fails_the_next_checkpoint_has_the_whole_texts(
    steps: list[tuple[int, str] | str],
) -> None:
    world = World()
    runs = [run_of(number) for number in range(3)]
    for run in runs:
        world.checkpoints.follow(run)
    for step in steps:
        if isinstance(step, tuple):
            runs[step[0]].add(step[1])
        elif step == "keep":
            await world.checkpoints.keep()
        elif step == "away":
            world.hub.away = True
            with pytest.raises(ShortTermUnavailable):
                await world.checkpoints.keep()
                raise ShortTermUnavailable("nothing was to be kept")
            world.hub.away = False
        else:
            world.hub.texts.clear()
    for _ in range(2):  # what was lost is found out by the first
        await world.checkpoints.keep()
    texts = await world.texts()
    lost = [run for run in runs if texts[run.id] != run.text]
    for run in lost:  # lost, and nothing said since: the next word brings all of it
        run.add("!")
    for _ in range(2):
        await world.checkpoints.keep()
    assert await world.texts() == {run.id: run.text for run in runs}


async def test_a_run_that_ends_before_it_was_kept_costs_nothing() -> None:
    world, run = World(), run_of()
    world.checkpoints.follow(run)
    world.checkpoints.settle(run)
    world.hub.away = True
    await world.checkpoints.keep()


async def test_a_run_that_is_over_is_known_no_more_even_if_that_could_not_be_said_at_once() -> None:
    world, run = World(), run_of()
    world.checkpoints.follow(run)
    run.add("some words")
    await world.checkpoints.keep()
    assert await world.texts() == {run.id: "some words"}
    world.checkpoints.settle(run)
    world.hub.away = True
    with pytest.raises(ShortTermUnavailable):
        await world.checkpoints.keep()
    world.hub.away = False
    await world.checkpoints.keep()
    assert await world.texts() == {}


async def test_after_a_loss_everything_is_kept_again() -> None:
    world, run = World(), run_of()
    world.checkpoints.follow(run)
    run.add("some words")
    await world.checkpoints.keep()
    world.hub.flush()
    world.checkpoints.begin_anew()
    await world.checkpoints.keep()
    assert await world.texts() == {run.id: "some words"}


async def test_a_run_that_ends_while_others_are_told_of_it_is_known_no_more() -> None:
    world, run = World(), run_of()
    begin_run = world.broker.begin_run

    async def ends_meanwhile(facts: RunFacts) -> None:
        world.checkpoints.settle(run)
        await begin_run(facts)

    world.broker.begin_run = ends_meanwhile  # type: ignore[method-assign]  # the moment matters
    world.checkpoints.follow(run)
    for _ in range(2):
        await world.checkpoints.keep()
    assert await world.texts() == {}


async def test_a_run_that_was_begun_without_an_answer_is_ended_there_too() -> None:
    world, run = World(), run_of()
    begin_run = world.broker.begin_run

    async def unanswered(facts: RunFacts) -> None:
        await begin_run(facts)
        raise ShortTermUnavailable("no answer")

    world.broker.begin_run = unanswered  # type: ignore[method-assign]  # the moment matters
    world.checkpoints.follow(run)
    with pytest.raises(ShortTermUnavailable):
        await world.checkpoints.keep()
    world.checkpoints.settle(run)
    await world.checkpoints.keep()
    assert await world.texts() == {}


async def test_runs_that_end_while_another_end_is_told_are_all_known_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    runs = [run_of(number) for number in range(3)]
    for run in runs:
        world.checkpoints.follow(run)
    await world.checkpoints.keep()
    world.checkpoints.settle(runs[0])
    end_run = world.broker.end_run

    async def slowly(user: UserId, run: RunId) -> None:
        world.checkpoints.settle(runs[1])
        world.checkpoints.settle(runs[2])
        await end_run(user, run)

    monkeypatch.setattr(world.broker, "end_run", slowly)
    await world.checkpoints.keep()
    assert await world.texts() == {}
