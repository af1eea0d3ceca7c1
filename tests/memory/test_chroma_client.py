from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from memory.chroma_client import (
    API_PATH,
    LARGE_BYTES,
    Address,
    ChromaClient,
    CollectionGone,
    ConnectionLost,
)
from memory.errors import (
    IndexDamaged,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreUnknown,
)
from memory.store_gate import StoreGate


class Server:
    """Says the same to everything; keeps the first lines of requests."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.body = b'{"nanosecond heartbeat": 7}'
        self.hangs = False
        self.hangs_up = False
        self.asked: list[str] = []

    async def answer(self, stream: SocketStream) -> None:
        async with stream:
            incoming = BufferedByteReceiveStream(stream)
            while True:
                try:
                    head = await incoming.receive_until(b"\r\n\r\n", 65_536)
                except (anyio.IncompleteRead, anyio.BrokenResourceError):
                    return
                self.asked.append(head.decode().split("\r\n")[0])
                if self.hangs:
                    await anyio.sleep_forever()
                if self.hangs_up:
                    return
                length = b"content-length: %d" % len(self.body)
                first = b"HTTP/1.1 %d x" % self.status
                await stream.send(b"\r\n".join([first, length, b"", self.body]))


@asynccontextmanager
async def opened(address: Address, *, timeout_s: float = 5) -> AsyncIterator[ChromaClient]:
    client = ChromaClient(address, timeout_s=timeout_s)
    try:
        yield client
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, ChromaClient]]:
    server = Server()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # this is no Django
    server.url = f"http://127.0.0.1:{port}"
    async with listener, anyio.create_task_group() as tasks, opened(server.url) as client:
        tasks.start_soon(listener.serve, server.answer)
        yield server, client
        tasks.cancel_scope.cancel()


async def test_a_request_goes_to_the_address_below_the_version_s_path() -> None:
    async with serving() as (server, client):
        assert await client.heartbeat() == 7
        assert server.asked == [f"GET {API_PATH} HTTP/1.1"]


async def test_names_are_quoted_in_paths() -> None:
    async with serving() as (server, client):
        server.status = 404
        with pytest.raises(CollectionGone):
            await client.get_collection("a b?c#d")
        assert server.asked[0].split()[1].endswith("/collections/a%20b%3Fc%23d")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, StoreUnavailable),
        (400, StoreRefused),
        (401, StoreUnavailable),
        (403, StoreUnavailable),
        (404, CollectionGone),
        (409, StoreRefused),
        (413, StoreRefused),
        (422, StoreRefused),
        (429, StoreUnavailable),
        (500, StoreUnknown),
        (503, StoreUnknown),
    ],
)
async def test_each_status_is_told_as_what_may_have_been_done(
    status: int, kind: type[StoreError]
) -> None:
    async with serving() as (server, client):
        server.status, server.body = status, b'{"message": "about user ann"}'
        with pytest.raises(StoreError) as caught:
            await client.heartbeat()
        assert type(caught.value) is kind
        assert ("ann" in str(caught.value)) == (status >= 500)


async def test_an_answer_that_is_no_json_leaves_it_open_what_was_done() -> None:
    async with serving() as (server, client):
        server.body = b"<html>"
        with pytest.raises(StoreUnknown, match="not JSON"):
            await client.heartbeat()


@pytest.mark.parametrize("size", [0, 2 * LARGE_BYTES])
async def test_answers_of_any_size_are_read(size: int) -> None:
    async with serving() as (server, client):
        server.body = b'{"nanosecond heartbeat": 7, "rest": "%s"}' % (b"x" * size)
        assert await client.heartbeat() == 7
        server.body = b"[" * (size + 1)
        with pytest.raises(StoreUnknown, match="not JSON"):
            await client.heartbeat()


@pytest.mark.parametrize("rows", [1, 20_000])
async def test_vectors_of_records_come_as_an_array(rows: int) -> None:
    async with serving() as (server, client):
        server.body = b'{"embeddings": [%s]}' % b",".join([b"[0.5,-1e-3]"] * rows)
        answer = await client._make_request("post", "/get")
        assert answer["embeddings"].dtype == np.float32
        assert answer["embeddings"].shape == (rows, 2)
        server.body = b'{"embeddings": [[1, 2], [3]]}'
        with pytest.raises(StoreUnknown, match="vectors"):
            await client._make_request("post", "/get")


async def test_nobody_there_means_that_nothing_was_done() -> None:
    async with opened("http://127.0.0.1:9") as client:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await client.heartbeat()


async def test_a_connection_that_breaks_under_a_request_leaves_it_open() -> None:
    async with serving() as (server, client):
        server.hangs_up = True
        with pytest.raises(ConnectionLost):
            await client.heartbeat()
        server.hangs_up = False
        assert await client.heartbeat() == 7


async def test_no_answer_in_time_leaves_it_open() -> None:
    async with serving() as (server, _):
        server.hangs = True
        async with opened(server.url, timeout_s=0.05) as client:
            with anyio.fail_after(10), pytest.raises(StoreUnknown, match="did not answer"):
                await client.heartbeat()


@pytest.mark.parametrize("address", ["nowhere", "ftp://127.0.0.1", "http://", "http://[::1"])
async def test_an_address_that_is_none_is_named_by_its_key(address: str) -> None:
    async with opened(address) as client:
        with pytest.raises(StoreUnavailable, match=r"chroma\.url"):
            await client.heartbeat()


async def test_the_address_is_asked_for_at_each_request() -> None:
    async with serving() as (server, _):
        addresses = iter(["", server.url + "/", server.url])
        async with opened(lambda: next(addresses)) as client:
            with pytest.raises(StoreUnavailable, match="not running"):
                await client.heartbeat()
            assert await client.heartbeat() == await client.heartbeat() == 7
        assert set(server.asked) == {f"GET {API_PATH} HTTP/1.1"}


async def test_cancelling_a_request_leaves_the_client_usable() -> None:
    async with serving() as (server, client):
        server.hangs = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.heartbeat)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        server.hangs = False
        assert await client.heartbeat() == 7


@pytest.mark.parametrize(
    ("told", "damage", "error"),
    [
        ("Error constructing hnsw segment reader", "certain", IndexDamaged),
        ("Internal error: Error finding id", "possible", IndexDamaged),
        ("(code: 5) database is locked", "stuck", StoreUnknown),
        ("(code: 1034) disk I/O error", "stuck", StoreUnknown),
        ("Failed to apply logs to the metadata segment", "stuck", StoreUnknown),
        ("something else", None, StoreUnknown),
    ],
)
async def test_a_fault_of_the_server_is_reported_by_its_kind(
    told: str, damage: str | None, error: type[StoreError]
) -> None:
    reports: list[str] = []
    async with serving() as (server, _):
        server.status, server.body = 500, told.encode()
        client = ChromaClient(
            server.url, timeout_s=5, on_damage=lambda _id, kind: reports.append(kind)
        )
        with pytest.raises(error):
            await client.heartbeat()
        await client.aclose()
    assert reports == ([damage] if damage else [])


async def test_a_request_that_waited_too_long_at_the_gate_was_certainly_not_made() -> None:
    gate = StoreGate()
    async with serving() as (server, _client):
        client = ChromaClient(server.url, timeout_s=0.2, gate=gate)
        async with gate.closed():
            with pytest.raises(StoreUnavailable, match="looked after"):
                await client.heartbeat()
        assert server.asked == []
        await client.heartbeat()
        await client.aclose()


async def test_a_chroma_that_answers_nothing_of_a_kind_for_long_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memory.chroma_client.SILENT_FOR_S", 0.05)
    reports: list[str] = []
    write = f"/collections/{'0' * 8}-0000-0000-0000-{'0' * 12}/add"
    async with serving() as (server, _):
        client = ChromaClient(
            server.url, timeout_s=0.1, on_damage=lambda _id, kind: reports.append(kind)
        )
        server.hangs = True
        with pytest.raises(StoreUnknown):
            await client._make_request("post", write)
        assert reports == [], "once is nothing"
        with anyio.move_on_after(0.07):
            await client._make_request("post", write)
        assert reports == ["stuck"]
        server.hangs = False
        await client._make_request("post", write)
        server.hangs = True
        with pytest.raises(StoreUnknown):
            await client._make_request("get", "/heartbeat")
        with pytest.raises(StoreUnknown):
            await client._make_request("post", write)
        assert reports == ["stuck"], "an answer came meanwhile"
        await client.aclose()
