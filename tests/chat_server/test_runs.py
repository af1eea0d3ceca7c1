from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.errors import ChatError
from chat_server.runs import MAX_WAITING, Lane, Run, Runs, digest
from memory.errors import IdConflict, StoreUnavailable
from memory.messages import ConversationId, Message, MessageId, UserId, reply_id
from tests.chat_server.twin_world import TwinWorld, twin_world

ANN, BOB = UserId("ann"), UserId("bob")
TEA, RUM = ConversationId("tea"), ConversationId("rum")
LANES = [(ANN, TEA), (ANN, RUM), (BOB, TEA)]


def said(name: str, user: UserId = ANN, conversation: ConversationId = TEA) -> Message:
    return Message(
        id=MessageId(f"{user}-{name}"),
        user=user,
        conversation=conversation,
        role="user",
        text="hello",
        timestamp=1.0,
        depth=0,
    )


def following(message: Message, name: str, *, role: str = "user") -> Message:
    changed = {"id": name, "parent": message.id, "depth": message.depth + 1, "role": role}
    return msgspec.structs.replace(message, **changed)


async def begun(runs: Runs, question: Message) -> Run:
    async with runs.lane(question.user, question.conversation) as lane:
        run = runs.begin(question, lane)
    run.question_stored.set()
    return run


def live(of_lane: Sequence[Run]) -> list[Run]:
    return [run for run in of_lane if run.turn_came.is_set()]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "begin", "finish", "abandon"]), st.integers(0, 20)),
        max_size=60,
    )
)
async def test_one_run_of_a_conversation_is_live_and_the_others_wait_in_order(
    steps: list[tuple[str, int]],
) -> None:
    runs = Runs()
    expected: dict[tuple[UserId, ConversationId], list[Run]] = {lane: [] for lane in LANES}
    for number, (what, choice) in enumerate(steps):
        user, conversation = LANES[choice % len(LANES)]
        waiting = expected[user, conversation]
        if what == "begin" and len(waiting) > MAX_WAITING:
            with pytest.raises(ChatError, match="busy"):
                await begun(runs, said(f"m{number}", user, conversation))
        elif what == "begin":
            waiting.append(await begun(runs, said(f"m{number}", user, conversation)))
        elif waiting:
            run = waiting.pop(choice % len(waiting))
            if what == "finish":
                runs.finish(run)
            else:
                runs.abandon(run)
                assert run.end_reason == "abandoned"
            runs.finish(run)  # once more changes nothing
            assert runs.find(user, run.id) is None
        for (owner, place), there in expected.items():
            assert runs.of_conversation(owner, place) == there
            assert live(there) == there[:1]
            assert len(there) <= 1 + MAX_WAITING
            assert all(runs.find(owner, run.id) is run for run in there)
        assert len(runs) == sum(map(len, expected.values()))
    assert set(runs._lanes) == {lane for lane, there in expected.items() if there}
    for there in expected.values():
        for run in there:
            runs.finish(run)
    with anyio.fail_after(5):
        await runs.wait_idle()
    assert not runs._lanes


async def test_a_full_conversation_says_busy_and_when_to_come_back() -> None:
    runs = Runs()
    for number in range(1 + MAX_WAITING):
        await begun(runs, said(f"m{number}"))
    with pytest.raises(ChatError) as refused:
        await begun(runs, said("one too many"))
    assert (refused.value.code, refused.value.retry_after_ms) == ("busy", 1000)
    await begun(runs, said("elsewhere", conversation=RUM))
    assert len(runs) == 2 + MAX_WAITING


async def test_a_run_is_found_by_its_own_user_only() -> None:
    runs = Runs()
    run = await begun(runs, said("m"))
    assert runs.find(ANN, run.id) is run
    assert runs.find(BOB, run.id) is None


async def test_all_runs_of_a_user_are_abandoned_and_nobody_elses() -> None:
    runs = Runs()
    mine = [await begun(runs, said(name)) for name in ("one", "two")]
    theirs = await begun(runs, said("three", UserId("ben")))
    runs.abandon_user(ANN)
    assert [run.end_reason for run in mine] == ["abandoned", "abandoned"]
    assert all(run.decided.is_set() for run in mine)
    assert theirs.end_reason is None
    assert len(runs) == 1


async def test_a_run_whose_question_is_not_stored_is_not_shown() -> None:
    runs = Runs()
    async with runs.lane(ANN, TEA) as lane:
        run = runs.begin(said("m"), lane)
    assert runs.of_conversation(ANN, TEA) == []
    run.question_stored.set()
    assert runs.of_conversation(ANN, TEA) == [run]
    assert runs.of_conversation(ANN, RUM) == []


async def test_a_lane_is_one_for_all_who_use_it_and_one_at_a_time() -> None:
    runs, inside, lanes = Runs(), 0, set[Lane]()

    async def use() -> None:
        nonlocal inside
        async with runs.lane(ANN, TEA) as lane:
            lanes.add(lane)
            inside += 1
            assert inside == 1
            await anyio.lowlevel.checkpoint()
            inside -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(use)
    assert len(lanes) == 1
    assert not runs._lanes


async def test_a_lane_that_was_waited_for_in_vain_is_left_behind_by_nobody() -> None:
    runs = Runs()

    async def wait() -> None:
        async with runs.lane(ANN, TEA):
            pytest.fail("it is held")

    async with anyio.create_task_group() as tasks, runs.lane(ANN, TEA):
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert not runs._lanes


def test_the_head_follows_what_is_said_and_not_replies_to_something_older() -> None:
    lane, first = Lane(), said("first")
    lane.follow(first)
    second = following(first, "second")
    lane.follow(second)
    lane.follow(following(first, "late", role="assistant"))
    assert lane.head is second
    reply = following(second, "reply", role="assistant")
    lane.follow(reply)
    assert lane.head is reply


async def test_a_reply_goes_to_the_end_of_its_own_branch() -> None:
    runs, question = Runs(), said("question")
    async with runs.lane(ANN, TEA) as lane:
        run = runs.begin(question, lane)
        lane.follow(question)
        after = following(question, "after")
        lane.follow(after)
        lane.follow(following(question, "sibling"))
    assert run.tail is after


async def test_what_was_said_is_the_pieces_in_order_counted_in_code_points() -> None:
    run = Run(said("m"), Lane())
    assert (run.text, run.chars) == ("", 0)
    for piece in ("Grüß", "e, ", "👍"):
        run.add(piece)
        assert run.text.endswith(piece)
    assert (run.text, run.chars) == ("Grüße, 👍", 8)
    assert digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


async def test_a_run_is_named_by_its_question_and_the_attempt() -> None:
    question = said("m")
    run = Run(question, Lane())
    assert run.id == Run.id_of(question)
    assert run.reply == reply_id(question.id, 0)
    assert Run.id_of(question, 1) != Run.id_of(question)
    assert Run.id_of(said("n")) != Run.id_of(question)


async def test_the_first_reason_to_end_a_run_holds() -> None:
    runs = Runs()
    run, other = await begun(runs, said("m")), await begun(runs, said("n"))
    run.end("stopped")
    runs.interrupt_all()
    assert (run.end_reason, other.end_reason) == ("stopped", "interrupted")
    assert run.scope.cancel_called
    assert other.scope.cancel_called


async def test_an_id_that_runs_elsewhere_is_a_conflict_and_harms_nobody() -> None:
    runs = Runs()
    first = await begun(runs, said("same"))
    with pytest.raises(IdConflict):
        await begun(runs, said("same", conversation=RUM))
    assert runs.find(ANN, first.id) is first
    runs.finish(first)
    assert len(runs) == 0
    assert not runs._lanes
    assert live([await begun(runs, said("next"))])


async def test_an_abandoned_run_makes_room_for_the_same_one_at_once() -> None:
    runs = Runs()
    first = await begun(runs, said("same"))
    runs.abandon(first)
    again = await begun(runs, said("same"))
    assert (again.id, again.turn_came.is_set()) == (first.id, True)
    runs.finish(first)
    assert runs.find(ANN, again.id) is again


async def test_one_id_in_two_conversations_at_once_blocks_neither() -> None:
    async with twin_world() as world:
        world.long_term.gate = anyio.Event()
        outcomes: list[str] = []

        async def send(conversation: str) -> None:
            try:
                await world.take("Hello.", id="one", conversation=conversation)
            except ChatError as error:
                outcomes.append(error.code)
            else:
                outcomes.append("accepted")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, "tea")
            tasks.start_soon(send, "rum")
            await anyio.wait_all_tasks_blocked()
            world.long_term.gate.set()
        assert sorted(outcomes) == ["accepted", "id_conflict"]
        for conversation in ("tea", "rum"):
            assert (await world.ask("Next?", conversation=conversation))["status"] == "completed"


async def test_a_repeated_send_is_not_accepted_because_of_one_that_was_not_stored() -> None:
    async with twin_world() as world:
        world.long_term.gate, world.model.gate = anyio.Event(), anyio.Event()
        world.long_term.fail_next_append(StoreUnavailable("away"))
        world.long_term.fail_next_append(StoreUnavailable("still away"))
        refused: list[str] = []

        async def send() -> None:
            with pytest.raises(ChatError) as error:
                await world.take("Lost?", id="one", conversation="tea", retry=True)
            refused.append(error.value.code)

        await in_turn(world, send, send)
        assert refused == ["not_stored", "not_stored"]
        world.model.gate = None
        accepted = await world.take("Lost?", id="one", conversation="tea", retry=True)
        assert not accepted["duplicate"]
        assert (await world.done(accepted["run"]))["status"] == "completed"


async def in_turn(world: TwinWorld, *sends: object) -> None:
    """Begin *sends* while the store holds everything up, then let it answer."""
    assert world.long_term.gate is not None
    async with anyio.create_task_group() as tasks:
        for send in sends:
            tasks.start_soon(send)  # type: ignore[arg-type]  # a function without arguments
            await anyio.wait_all_tasks_blocked()
        world.long_term.gate.set()
