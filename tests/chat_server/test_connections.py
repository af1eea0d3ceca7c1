from __future__ import annotations

import anyio
import msgspec
import pytest

from chat_server.connections import Connections
from chat_server.errors import ChatError
from chat_server.log_config import Pseudonyms
from chat_server.metrics import Metrics
from chat_server.outbox import Outbox
from memory.messages import UserId

ANA, BOB = UserId("ana"), UserId("bob")


def opened() -> tuple[Connections, Metrics]:
    metrics = Metrics(Pseudonyms())
    return Connections(metrics), metrics


async def test_connections_are_counted_while_they_last() -> None:
    connections, metrics = opened()
    with connections.opened(Outbox()), connections.opened(Outbox()):
        assert len(connections) == 2
        assert b"tandem_connections 2.0" in metrics.render()[0]
    assert len(connections) == 0
    assert b"tandem_connections 0.0" in metrics.render()[0]


async def test_the_end_is_announced_to_all_with_its_deadline() -> None:
    connections, _ = opened()
    tabs = [Outbox(), Outbox()]
    with connections.opened(tabs[0]), connections.opened(tabs[1]):
        assert not connections.draining
        connections.announce_end(2.5)
        assert connections.draining
        for tab in tabs:
            frame = msgspec.json.decode((await tab.take()).payload)
            assert frame == {"type": "goaway", "reason": "restart", "deadline_ms": 2500}


async def test_all_are_closed_with_the_code_that_says_come_back() -> None:
    connections, _ = opened()
    left, here = Outbox(), Outbox()
    with connections.opened(left), connections.opened(here):
        left.close(None)
        connections.close_all()
        assert await left.closed() is None
        reason = await here.closed()
        assert reason is not None
        assert (reason.code, reason.retryable) == ("shutting_down", True)


async def test_the_last_one_to_leave_ends_the_wait() -> None:
    connections, _ = opened()
    with anyio.fail_after(5):
        await connections.wait_none()
        waited = anyio.Event()

        async def wait() -> None:
            await connections.wait_none()
            waited.set()

        async with anyio.create_task_group() as tasks:
            with connections.opened(Outbox()):
                with connections.opened(Outbox()):
                    tasks.start_soon(wait)
                    await anyio.wait_all_tasks_blocked()
                await anyio.wait_all_tasks_blocked()
                assert not waited.is_set()
            await waited.wait()


def test_there_is_room_until_all_places_are_taken_and_again_when_one_has_left() -> None:
    connections = Connections(Metrics(Pseudonyms()), most=2)
    with connections.opened(Outbox()):
        connections.check_room()
        with connections.opened(Outbox()):
            with pytest.raises(ChatError) as refused:
                connections.check_room()
            assert refused.value.code == "overloaded"
            assert refused.value.retry_after_ms
        connections.check_room()


def test_nobody_is_let_in_while_the_server_ends() -> None:
    connections, _ = opened()
    connections.announce_end(1.0)
    with pytest.raises(ChatError, match="shutting_down"):
        connections.check_room()


def test_a_users_connections_are_limited_and_nobody_elses() -> None:
    connections = Connections(Metrics(Pseudonyms()), most_per_user=1)
    for _ in range(2):
        with connections.of_user(ANA):
            with pytest.raises(ChatError, match="too_many_connections"), connections.of_user(ANA):
                pass
            with connections.of_user(BOB):
                pass
