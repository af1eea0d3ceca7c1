from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from chat_server.courier import MOST_WAITING, Courier, OfUser, Reply
from chat_server.errors import ChatError
from chat_server.letters import Asked, Here, Live
from memory.live.broker import NodeId
from memory.live.in_process_broker import Hub, InProcessBroker
from memory.messages import UserId

ONE, TWO = NodeId("1"), NodeId("2")
ANN = UserId("ann")
PIECE = Live(user=ANN, payload=b"{}")


@asynccontextmanager
async def couriers() -> AsyncIterator[tuple[Hub, Courier, Courier]]:
    hub = Hub()
    async with anyio.create_task_group() as tasks:
        both = [Courier(InProcessBroker(hub, node), tasks) for node in (ONE, TWO)]
        for courier in both:
            tasks.start_soon(courier.run_sender)
            tasks.start_soon(courier.run_receiver)
        await anyio.wait_all_tasks_blocked()
        one, two = both
        yield hub, one, two
        tasks.cancel_scope.cancel()


def asked(courier: Courier) -> Asked:
    return Asked(number=courier.next_number(), user=ANN, name=None, expires_at=None, frame=b"{}")


async def test_letters_arrive_in_order_and_in_the_right_hands() -> None:
    async with couriers() as (_, one, two):
        got: list[OfUser] = []
        two.on_live = lambda node, live: got.append(live) if node == ONE else None
        for number in range(5):
            one.post(TWO, Live(user=UserId(str(number)), payload=b"{}"))
        one.post(ONE, PIECE)
        await anyio.wait_all_tasks_blocked()
        assert [live.user for live in got] == list("01234")


async def test_a_command_is_carried_out_elsewhere_and_its_events_come_back() -> None:
    async with couriers() as (_, one, two):

        async def carry_out(command: Asked, reply: Reply) -> None:
            assert command.user == ANN
            reply(b"first")
            await anyio.lowlevel.checkpoint()
            reply(b"second")

        two.on_asked = carry_out
        answers: list[bytes] = []
        await one.ask(TWO, asked(one), answers.append, within_s=5)
        assert answers == [b"first", b"second"]


async def test_a_refusal_comes_back_as_it_was_given() -> None:
    async with couriers() as (_, one, two):

        async def refuse(_command: Asked, _reply: Reply) -> None:
            raise ChatError("rate_limited", "wait", field="text", retry_after_ms=700)

        two.on_asked = refuse
        with pytest.raises(ChatError) as refused:
            await one.ask(TWO, asked(one), lambda _answer: None, within_s=5)
        error = refused.value
        assert (error.code, error.message) == ("rate_limited", "wait")
        assert (error.field, error.retry_after_ms) == ("text", 700)


async def test_a_node_that_is_not_ready_to_serve_says_busy_and_one_that_is_gone_nothing() -> None:
    async with couriers() as (hub, one, _):
        with pytest.raises(ChatError) as refused:
            await one.ask(TWO, asked(one), lambda _answer: None, within_s=5)
        assert refused.value.code == "busy"
        hub.loses = lambda _node: True
        with pytest.raises(TimeoutError):
            await one.ask(TWO, asked(one), lambda _answer: None, within_s=0.05)


async def test_an_answer_that_was_lost_on_its_way_is_none() -> None:
    async with couriers() as (hub, one, two):

        async def carry_out(_command: Asked, reply: Reply) -> None:
            hub.loses = lambda node: node == ONE
            reply(b"lost")
            await anyio.wait_all_tasks_blocked()
            hub.loses = lambda _node: False

        two.on_asked = carry_out
        answers: list[bytes] = []
        with pytest.raises(TimeoutError):
            await one.ask(TWO, asked(one), answers.append, within_s=5)
        assert not answers


async def test_counts_that_agree_miss_nothing_and_ones_that_do_not_are_noticed_once() -> None:
    async with couriers() as (hub, one, two):
        missed: list[int] = []
        two.on_missed = lambda: missed.append(1)

        async def compare() -> None:
            one.announce()
            await anyio.wait_all_tasks_blocked()

        await compare()
        for _ in range(3):
            one.post(TWO, PIECE)
            await anyio.wait_all_tasks_blocked()
            await compare()
        assert not missed
        hub.loses = lambda node: node == TWO
        one.post(TWO, PIECE)
        await anyio.wait_all_tasks_blocked()
        hub.loses = lambda _node: False
        await compare()
        assert len(missed) == 1
        await compare()
        assert len(missed) == 1


async def test_who_does_not_know_what_was_sent_says_so() -> None:
    async with couriers() as (hub, one, two):
        missed: list[int] = []
        two.on_missed = lambda: missed.append(1)
        one.announce()
        await anyio.wait_all_tasks_blocked()
        hub.away = True
        one.post(TWO, PIECE)
        await anyio.wait_all_tasks_blocked()
        hub.away = False
        one.announce()
        await anyio.wait_all_tasks_blocked()
        assert len(missed) == 1


async def test_what_waits_is_bounded_and_the_loss_is_told() -> None:
    async with couriers() as (_, one, two):
        got: list[OfUser] = []
        missed: list[int] = []
        one.announce()
        await anyio.wait_all_tasks_blocked()
        two.on_live = lambda _node, live: got.append(live)
        two.on_missed = lambda: missed.append(1)
        for _ in range(MOST_WAITING + 7):
            one.post(TWO, PIECE)
        await anyio.wait_all_tasks_blocked()
        assert len(got) == MOST_WAITING
        one.announce()
        await anyio.wait_all_tasks_blocked()
        assert missed


async def test_letters_to_all_are_counted_as_such() -> None:
    async with couriers() as (_, one, two):
        missed: list[int] = []
        two.on_missed = lambda: missed.append(1)
        for _ in range(3):
            one.announce()
            one.post(None, Here(user=ANN))
            one.post(TWO, PIECE)
            await anyio.wait_all_tasks_blocked()
        one.announce()
        await anyio.wait_all_tasks_blocked()
        assert not missed


async def test_a_fault_in_one_command_ends_that_command_only_and_is_told() -> None:
    async with couriers() as (_, one, two):

        async def carry_out(command: Asked, reply: Reply) -> None:
            if command.number == 1:
                raise RuntimeError("nobody thought of this")
            reply(b"done")

        two.on_asked = carry_out
        with pytest.raises(ChatError) as told:
            await one.ask(TWO, asked(one), lambda _answer: None, within_s=5)
        assert told.value.code == "internal"
        await one.ask(TWO, asked(one), lambda _answer: None, within_s=5)


async def test_a_loss_is_noticed_after_the_sender_has_begun_to_count_anew() -> None:
    async with couriers() as (hub, one, two):
        missed: list[int] = []

        async def compare() -> None:
            one.announce()
            await anyio.wait_all_tasks_blocked()

        await compare()
        for _ in range(3):
            one.post(TWO, PIECE)
        await compare()
        await compare()
        one.forget(frozenset((TWO,)))
        await compare()
        two.on_missed = lambda: missed.append(1)
        hub.loses = lambda node: node == TWO
        one.post(TWO, PIECE)
        await anyio.wait_all_tasks_blocked()
        hub.loses = lambda _node: False
        await compare()
        assert missed == [1]
