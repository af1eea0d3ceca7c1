"""Several workers on one machine, as processes: they share everything, and none is missed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from tests.chaos.chroma_child import index_folder
from tests.chaos.faults_index import PICKLE
from tests.chat_server.transfer_world import line
from tests.integration.bot import bot
from tests.integration.running_server import RunningServer, running_server
from tests.integration.test_erasure import holders
from tests.integration.worker_world import Workers, eventually, is_gone
from tests.stub_model import Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

TWO = {"TANDEM_SERVER__WORKERS": "2", "TANDEM_SERVER__DRAIN_S": "2"}
CANARY = "obsidian-heliotrope"


@pytest.fixture(scope="module")
def model() -> Iterator[tuple[StubModel, dict[str, str]]]:
    stub = StubModel()
    with stub.running() as base_url:
        yield stub, {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "test-key"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prepared_model_folder: Path) -> Path:
    data_dir = tmp_path_factory.mktemp("workers") / "data"
    models = data_dir / "models"
    models.mkdir(parents=True)
    shutil.copytree(prepared_model_folder, models / prepared_model_folder.name)
    return data_dir


@pytest.fixture(scope="module")
def running(folder: Path, model: tuple[StubModel, dict[str, str]]) -> Iterator[RunningServer]:
    """One server for all tests here, but for those that end it."""
    with running_server(folder, {**model[1], **TWO}) as server:
        yield server.wait_ready()


@pytest.fixture
def workers(running: RunningServer, folder: Path) -> Workers:
    return Workers(running, folder)


@pytest.fixture
def stub(model: tuple[StubModel, dict[str, str]]) -> StubModel:
    model[0].mode = Mode()
    return model[0]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def counted(client: httpx.Client, workers: Workers, name: str) -> float:
    body = client.get("/metrics", headers=workers.admin).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.name == name
    )


async def test_both_serve_and_what_is_said_to_one_is_read_at_the_other(workers: Workers) -> None:
    token = workers.server.session()
    async with bot(workers.server.url, token) as client:
        done = await client.ask("My dog is called Biscuit.")
    with workers.clients() as clients:
        for each in clients:
            found = each.get("/api/conversations", headers=bearer(token)).json()
            assert [it["id"] for it in found["conversations"]] == [done["conversation"]]


async def test_figures_are_those_of_all_workers_whichever_is_asked(workers: Workers) -> None:
    async with bot(workers.server.url, workers.server.session()) as client:
        await client.ask("Hello.")
        with workers.clients() as (first, second):
            for name in ("tandem_connections", "tandem_turns_total"):
                assert counted(first, workers, name) == counted(second, workers, name) >= 1
            bodies = [workers.figures(it) for it in (first, second)]
        assert [body["connections"] for body in bodies] == [1, 1]
        assert [sum(it["connections"] for it in body["workers"]) for body in bodies] == [1, 1]
        assert [body["answeredBy"] for body in bodies] == [0, 1]


async def test_what_is_erased_at_one_worker_is_hidden_at_the_other_at_once_and_gone_soon(
    workers: Workers, folder: Path
) -> None:
    token = workers.server.session()
    async with bot(workers.server.url, token) as client:
        user = client.welcome["user"]
        await client.ask(f"My {CANARY} is blue.")
        with workers.clients() as clients:
            for each in clients:  # both have read it
                assert each.get("/api/conversations", headers=bearer(token)).json()["conversations"]
            asked = clients[0].request(
                "DELETE", "/api/me", json={"confirm": user}, headers=bearer(token)
            )
            assert asked.status_code == 202, asked.text
            for each in clients:
                left = each.get("/api/conversations", headers=bearer(token)).json()
                assert left["conversations"] == []
            with pytest.raises(ConnectionClosed):
                while True:
                    await client.receive()
            erasure = asked.json()["erasure"]

            def finished() -> bool:
                answer = clients[1].get(f"/api/erasures/{erasure}", headers=bearer(token))
                return answer.json()["finished_at"] is not None

            await anyio.to_thread.run_sync(eventually, finished)
    assert holders(folder, [CANARY.encode()]) == []


async def test_a_deleted_message_is_a_tombstone_at_both_workers(workers: Workers) -> None:
    token = workers.server.session()
    async with bot(workers.server.url, token) as client:
        done = await client.ask("The safe's code is 1234.")
        question = done["message"]["parent"]
    path = f"/api/conversations/{done['conversation']}/messages"
    with workers.clients() as clients:
        for each in clients:
            assert "1234" in each.get(path, headers=bearer(token)).text
        deleted = clients[0].delete(f"/api/messages/{question}", headers=bearer(token))
        assert deleted.status_code == 202, deleted.text
        for each in clients:
            first = each.get(path, headers=bearer(token)).json()["messages"][0]
            assert (first["status"], first["text"]) == ("deleted", "")
            listed = each.get("/api/conversations", headers=bearer(token)).text
            assert "1234" not in listed


async def test_a_tab_is_told_of_a_deleted_message_whichever_worker_deletes_it(
    workers: Workers,
) -> None:
    token = workers.server.session()
    async with bot(workers.server.url, token) as tab:
        done = await tab.ask("The safe's code is 1234.")
        messages = [done["message"]["parent"], done["message"]["id"]]
        with workers.clients() as clients:
            for each, message in zip(clients, messages, strict=True):
                deleted = each.delete(f"/api/messages/{message}", headers=bearer(token))
                assert deleted.status_code == 202, deleted.text
                told = await tab.until_type("message.deleted")
                assert (told["message"]["id"], told["message"]["text"]) == (message, "")


async def test_a_killed_worker_is_back_and_what_it_had_shown_is_stored(
    workers: Workers, stub: StubModel
) -> None:
    stub.mode = Mode(tokens=400, token_ms=20)
    token = workers.server.session()
    with pytest.raises(ConnectionClosed):
        async with bot(workers.server.url, token) as client:
            accepted = await client.say("Tell me a long story.")
            await client.until_type("run.delta")
            await anyio.sleep(1.0)  # the journal is written every quarter of a second
            (slot,) = [slot for slot, runs in workers.runs().items() if runs]
            with workers.clients() as clients:
                counted_before = counted(clients[0], workers, "tandem_connections_total")
                killed = workers.kill(slot)
                other = clients[1 - slot]
                for _ in range(20):  # the other one goes on
                    assert other.get("/healthz").status_code == 200
            while True:
                await client.receive()
    assert counted_before >= 0
    stub.mode = Mode()
    await anyio.to_thread.run_sync(workers.wait_back, slot, killed)
    path = f"/api/conversations/{accepted['conversation']}/messages"

    def interrupted() -> bool:
        answer = workers.server.get(path, token)
        found = answer.json().get("messages", [])
        return len(found) == 2 and found[1]["status"] == "interrupted" and bool(found[1]["text"])

    await anyio.to_thread.run_sync(eventually, interrupted)


async def test_a_chroma_that_is_killed_with_a_broken_index_is_back_and_healed_for_both(
    workers: Workers, folder: Path
) -> None:
    server, token = workers.server, workers.server.session()
    imported = httpx.post(
        f"{server.url}/api/import",
        headers=bearer(token),
        content="\n".join(json.dumps(line(number)) for number in range(300)),
        timeout=60,
    )
    assert json.loads(imported.text.splitlines()[-1])["stored"] == 300
    chroma = server.child_pid("chroma")
    os.kill(chroma, signal.SIGSTOP)
    pickle = index_folder(folder) / PICKLE
    with pickle.open("r+b") as file:
        file.truncate(pickle.stat().st_size // 2)
    os.kill(chroma, signal.SIGKILL)
    await anyio.to_thread.run_sync(
        server.wait_logged, lambda event: event.get("event") == "healing.ended"
    )
    with workers.clients() as clients:
        for each in clients:
            assert eventually(lambda at=each: sound(at)) == "ok"  # type: ignore[misc]
    for _ in range(4):
        async with bot(server.url, server.session()) as client:
            assert (await client.ask("Are you there again?"))["status"] == "completed"


def sound(client: httpx.Client) -> str | None:
    """How Chroma is as a worker has it, once that is ready and heals nothing."""
    answer = client.get("/readyz")
    chroma = answer.json()["parts"]["chroma"]
    return chroma["state"] if answer.is_success and "healing" not in chroma else None


def test_a_hangup_replaces_both_and_refuses_nobody(workers: Workers) -> None:
    before = workers.pids()
    over = threading.Event()
    failures: list[str] = []
    answered = [0]

    def ask() -> None:
        while not over.is_set():
            try:
                answered[0] += httpx.get(f"{workers.server.url}/healthz", timeout=20).is_success
            except httpx.ConnectError as fault:
                failures.append(repr(fault))
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    workers.server.process.send_signal(signal.SIGHUP)
    try:
        workers.server.wait_logged(lambda event: event.get("event") == "workers.rolled", 60)
    finally:
        over.set()
        asking.join()
    assert failures == []
    assert answered[0] > 20
    after = workers.pids()
    assert set(after) == {0, 1}
    assert not set(before.values()) & set(after.values())


async def test_a_killed_supervisor_takes_all_with_it_and_the_next_one_ends_what_it_began(
    workers: Workers, folder: Path, model: tuple[StubModel, dict[str, str]]
) -> None:
    server, token = workers.server, workers.server.session()
    async with bot(server.url, token) as client:
        user = client.welcome["user"]
        await client.ask(f"My {CANARY} is green.")
    pids = [
        *workers.pids().values(),
        *(server.child_pid(name) for name in ("chroma", "redis")),
    ]
    asked = httpx.request(
        "DELETE", f"{server.url}/api/me", json={"confirm": user}, headers=bearer(token)
    )
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    with running_server(folder, {**model[1], **TWO}) as again:
        again.wait_ready()
        assert all(map(is_gone, pids))
        assert set(Workers(again, folder).pids()) == {0, 1}
        assert again.get("/api/conversations", token).json()["conversations"] == []

        def finished() -> bool:
            answer = again.get(f"/api/erasures/{asked.json()['erasure']}", token)
            return answer.json()["finished_at"] is not None

        await anyio.to_thread.run_sync(eventually, finished)
        assert holders(folder, [CANARY.encode()]) == []
        assert again.stop() == 0
