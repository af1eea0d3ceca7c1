"""Two workers, one server: to which of them a tab is connected does not matter, whatever breaks.

The tabs follow the protocol by the letter (``tests/chaos/wire_tab.py``) and complain.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from redis.asyncio import Redis

from memory.redis_process import RedisProcess
from tests.chaos.wire_tab import Tab, read_all
from tests.integration.running_server import RunningServer, running_server
from tests.stub_model import Mode, StubModel

TABS = 6
SLOW = Mode(tokens=40, token_ms=50)


class TwoWorkers:
    """A server, its model, and users with tabs at both workers."""

    def __init__(
        self, server: RunningServer, stub: StubModel, data_dir: Path, admin_token: str
    ) -> None:
        self.server = server
        self.data_dir = data_dir
        self.stub = stub
        self._admin = {"Authorization": f"Bearer {admin_token}"}

    def workers(self) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.server.url}/admin/metrics", headers=self._admin, timeout=10)
        workers: list[dict[str, Any]] = answer.json()["workers"]
        return workers

    async def worker(self, what: str) -> dict[str, Any]:
        """The one worker with *what* (``runs``), once there is one."""
        with anyio.fail_after(10):
            while True:
                found = [it for it in await anyio.to_thread.run_sync(self.workers) if it[what]]
                if len(found) == 1:
                    return found[0]
                await anyio.sleep(0.05)

    @asynccontextmanager
    async def tabs(self, count: int = TABS) -> AsyncIterator[list[Tab]]:
        """Tabs of one new user, connected, at both workers; in the end none has a complaint."""
        token = self.server.session()
        before = {it["slot"]: it["connections"] for it in self.workers()}
        async with httpx.AsyncClient(base_url=self.server.url, timeout=10) as http:
            tabs = [Tab(self.server.url, token, http) for _ in range(count)]
            async with anyio.create_task_group() as tasks:
                for tab in tabs:
                    tasks.start_soon(tab.run)
                await self._spread(tabs, before)
                yield tabs
                await self.agree(tabs, token, http)
                tasks.cancel_scope.cancel()

    async def _spread(self, tabs: list[Tab], before: dict[int, int]) -> None:
        """Return once both workers have some of *tabs*: the kernel deals connections out."""
        with anyio.fail_after(30):
            while True:
                await all_are(tabs, lambda tab: tab.connected)
                now = await anyio.to_thread.run_sync(self.workers)
                if all(it["connections"] > before.get(it["slot"], 0) for it in now):
                    return
                tabs[-1].drop()
                tabs[-2].drop()
                await anyio.sleep(0.1)

    async def agree(self, tabs: list[Tab], token: str, http: httpx.AsyncClient) -> None:
        """Return once all tabs have what the history has; they have nothing to complain of."""
        with anyio.fail_after(30):
            while not await self._do_agree(tabs, token, http):
                await anyio.sleep(0.1)
        assert [tab.copy.complaints for tab in tabs] == [[]] * len(tabs)

    async def _do_agree(self, tabs: list[Tab], token: str, http: httpx.AsyncClient) -> bool:
        stored = {
            message["id"]: message["text"]
            for _, messages, _ in await read_all(http, token)
            for message in messages
            if message["role"] == "assistant"
        }
        return all(
            tab.settled
            and not tab.copy.unfinished()
            and {it.run: it.text for it in tab.copy.replies.values() if it.text} == stored
            for tab in tabs
        )


async def all_are(tabs: list[Tab], is_so: Any, within_s: float = 20) -> None:
    with anyio.fail_after(within_s):
        while not all(is_so(tab) for tab in tabs):
            await anyio.sleep(0.02)


def said(text: str = "Hello", **more: str) -> dict[str, str]:
    return {"type": "send", "id": uuid4().hex, "text": text, **more}


@pytest.fixture(scope="module")
def two(
    tmp_path_factory: pytest.TempPathFactory, prepared_model_folder: Path
) -> Iterator[TwoWorkers]:
    data_dir = tmp_path_factory.mktemp("two") / "data"
    models = data_dir / "models"
    models.mkdir(parents=True)
    shutil.copytree(prepared_model_folder, models / prepared_model_folder.name)
    stub = StubModel()
    with stub.running() as model:
        environment = {
            "OPENAI_BASE_URL": model,
            "OPENAI_API_KEY": "test-key",
            "TANDEM_SERVER__WORKERS": "2",
            "TANDEM_LIMITS__PER_USER": "1000",
            "TANDEM_LIMITS__HTTP": "100000/minute",
            "TANDEM_AUTH__ADMIN_TOKEN": "an-admin-token-of-the-tests",
        }
        with running_server(data_dir, environment) as server:
            server.wait_ready()
            yield TwoWorkers(server, stub, data_dir, environment["TANDEM_AUTH__ADMIN_TOKEN"])


@pytest.fixture
def quick(two: TwoWorkers) -> Iterator[TwoWorkers]:
    """The model answers in half a second; both workers are there."""
    two.stub.mode = Mode(tokens=10, token_ms=20)
    yield two
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(both_are_there, two)


async def both_are_there(two: TwoWorkers) -> None:
    with anyio.fail_after(30):
        while len(await anyio.to_thread.run_sync(two.workers)) < 2:
            await anyio.sleep(0.1)


async def test_a_hundred_repeats_at_once_are_one_message_one_run_and_one_call_of_the_model(
    quick: TwoWorkers,
) -> None:
    asked_before = len(quick.stub.requests)
    async with quick.tabs() as tabs:
        frame = said(conversation=uuid4().hex)
        answers: list[dict[str, Any]] = []

        async def ask(tab: Tab, copy: dict[str, str]) -> None:
            answers.append(await tab.ask(copy))

        async with anyio.create_task_group() as tasks:
            for tab in tabs:
                for _ in range(16):
                    # A tab asks once at a time under one id: the frame itself is repeated.
                    await tab._send(frame)
                tasks.start_soon(ask, tab, frame)
        assert {answer["type"] for answer in answers} == {"accepted"}
        assert len({(answer["message"], answer["run"]) for answer in answers}) == 1
        await all_are(tabs, lambda tab: len(tab.copy.replies) == 1 and not tab.copy.unfinished())
        assert len(quick.stub.requests) == asked_before + 1
        assert all(len(tab.copy.said) == 1 for tab in tabs)
        again = await tabs[0].ask(frame)
        assert again["duplicate"]
    assert len(quick.stub.requests) == asked_before + 1


async def test_messages_from_all_tabs_at_once_stand_in_one_line(quick: TwoWorkers) -> None:
    async with quick.tabs() as tabs:
        conversation = uuid4().hex
        await tabs[0].ask(said("first", conversation=conversation))
        async with anyio.create_task_group() as tasks:
            for number, tab in enumerate(tabs[:4]):
                tasks.start_soon(tab.ask, said(f"then {number}", conversation=conversation))
        await all_are(tabs, lambda tab: len(tab.copy.replies) == 5 and not tab.copy.unfinished())
        token, http = tabs[0]._token, tabs[0]._http
        ((_, messages, _),) = await read_all(http, token)
        assert len(messages) == 10
        assert [it["parent"] for it in messages[1:]] == [it["id"] for it in messages[:-1]]


async def test_a_reply_is_stopped_from_any_tab(quick: TwoWorkers) -> None:
    quick.stub.mode = SLOW
    async with quick.tabs() as tabs:
        for tab in tabs[:4]:
            accepted = await tabs[0].ask(said(conversation=uuid4().hex))
            run = accepted["run"]
            await all_are(
                tabs, lambda tab, run=run: run in tab.copy.replies and tab.copy.replies[run].text
            )
            assert (await tab.ask({"type": "stop", "id": uuid4().hex, "run": run}))["type"] == "ok"
            await all_are(tabs, lambda tab, run=run: tab.copy.replies[run].status == "stopped")


async def test_a_tab_that_comes_in_the_middle_of_a_reply_gets_all_of_it(quick: TwoWorkers) -> None:
    quick.stub.mode = SLOW
    async with quick.tabs() as tabs:
        run = (await tabs[0].ask(said()))["run"]
        await all_are(tabs, lambda tab: run in tab.copy.replies and tab.copy.replies[run].text)
        for tab in tabs[1:]:
            tab.drop()
        await all_are(tabs, lambda tab: tab.connected)
        assert all(tab.copy.counts.resumed for tab in tabs[1:])
    assert all(tab.copy.replies[run].status == "completed" for tab in tabs)


async def test_a_killed_workers_replies_end_with_what_was_shown_within_three_seconds(
    quick: TwoWorkers,
) -> None:
    quick.stub.mode = Mode(tokens=400, token_ms=50)
    async with quick.tabs() as tabs:
        run = (await tabs[0].ask(said()))["run"]
        await all_are(
            tabs, lambda tab: run in tab.copy.replies and len(tab.copy.replies[run].text) > 50
        )
        victim = await quick.worker("runs")
        os.kill(victim["pid"], signal.SIGKILL)
        killed_at = anyio.current_time()
        await all_are(tabs, lambda tab: tab.copy.replies[run].done)
        assert anyio.current_time() - killed_at < 3.5
        assert {tab.copy.replies[run].status for tab in tabs} == {"interrupted"}
        quick.stub.mode = Mode(tokens=10, token_ms=20)
        await tabs[0].ask(said("and then?"))


async def test_a_worker_that_stood_still_ends_its_replies_as_the_others_have(
    quick: TwoWorkers,
) -> None:
    quick.stub.mode = Mode(tokens=200, token_ms=50)
    async with quick.tabs() as tabs:
        run = (await tabs[0].ask(said()))["run"]
        await all_are(
            tabs, lambda tab: run in tab.copy.replies and len(tab.copy.replies[run].text) > 50
        )
        victim = await quick.worker("runs")
        os.kill(victim["pid"], signal.SIGSTOP)
        try:
            with anyio.fail_after(5):
                while not any(tab.copy.replies[run].done for tab in tabs):
                    await anyio.sleep(0.05)
        finally:
            os.kill(victim["pid"], signal.SIGCONT)
        await all_are(tabs, lambda tab: tab.copy.replies[run].done)
        assert {tab.copy.replies[run].status for tab in tabs} == {"interrupted"}


async def test_a_flushed_redis_begins_the_order_anew_and_loses_nothing(quick: TwoWorkers) -> None:
    quick.stub.mode = SLOW
    async with quick.tabs() as tabs:
        run = (await tabs[0].ask(said()))["run"]
        await all_are(tabs, lambda tab: run in tab.copy.replies and tab.copy.replies[run].text)
        await flush(quick)
        await all_are(tabs, lambda tab: tab.copy.counts.resets)
        await all_are(tabs, lambda tab: tab.copy.replies[run].done)
        assert {tab.copy.replies[run].status for tab in tabs} == {"completed"}
        await tabs[1].ask(said("again"))


async def flush(two: TwoWorkers) -> None:
    async with Redis(unix_socket_path=str(RedisProcess(two.data_dir).socket_path)) as redis:
        await redis.flushall()


async def test_while_redis_stands_still_nobody_is_refused_and_then_all_agree(
    quick: TwoWorkers,
) -> None:
    async with quick.tabs() as tabs:
        await tabs[0].ask(said("before", conversation=uuid4().hex))
        pid = quick.server.child_pid("redis")
        os.kill(pid, signal.SIGSTOP)
        try:
            for tab in tabs[:3]:
                answer = await tab.ask(said("meanwhile", conversation=uuid4().hex))
                assert answer["type"] == "accepted"
            await anyio.sleep(3)
        finally:
            os.kill(pid, signal.SIGCONT)
        await all_are(tabs, lambda tab: len(tab.copy.said) == 4, 30)
        await tabs[3].ask(said("after", conversation=uuid4().hex))


async def test_a_rolling_restart_under_load_loses_no_message_and_no_word(quick: TwoWorkers) -> None:
    async with quick.tabs() as tabs:
        asked: list[dict[str, Any]] = []
        rolled = anyio.Event()

        async def talk(tab: Tab) -> None:
            conversation = uuid4().hex
            while not rolled.is_set():
                asked.append(await tab.ask(said(conversation=conversation)))
                await anyio.sleep(0.2)

        async with anyio.create_task_group() as tasks:
            for tab in tabs[:3]:
                tasks.start_soon(talk, tab)
            await anyio.sleep(1)
            quick.server.process.send_signal(signal.SIGHUP)
            await anyio.to_thread.run_sync(
                lambda: quick.server.wait_logged(lambda it: it.get("event") == "workers.rolled", 90)
            )
            rolled.set()
        assert {answer["type"] for answer in asked} == {"accepted"}
        await all_are(tabs, lambda tab: {it["message"] for it in asked} <= set(tab.copy.said), 30)
        await all_are(tabs, lambda tab: not tab.copy.unfinished(), 30)
        assert {it.status for tab in tabs for it in tab.copy.replies.values()} == {"completed"}
