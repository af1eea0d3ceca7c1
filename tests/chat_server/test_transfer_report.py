from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from chat_server import transfer_report
from chat_server.errors import ChatError
from chat_server.transfer_import import Counts
from chat_server.transfer_report import Report


class Client:
    """Reads what is sent, once ``reads`` is set."""

    def __init__(self) -> None:
        self.reads = anyio.Event()
        self.lines: list[dict[str, Any]] = []

    async def send(self, part: bytes) -> None:
        await self.reads.wait()
        self.lines += [msgspec.json.decode(line) for line in part.splitlines()]


async def test_errors_come_in_order_and_the_summary_last() -> None:
    report, client = Report(), Client()
    client.reads.set()
    report.error(3, ChatError("bad_request", "wrong", field="role"))
    report.error(5, ChatError("empty_text", "empty"))
    report.end(Counts(read=9, stored=6, duplicates=1, errors=2), 1.5)
    await report.write(client.send, Counts())
    assert [line.get("line") for line in client.lines] == [3, 5, None]
    assert client.lines[0]["error"]["field"] == "role"
    assert client.lines[2] == {
        "done": True,
        "read": 9,
        "stored": 6,
        "duplicates": 1,
        "errors": 2,
        "took_ms": 1500,
    }


async def test_in_silence_the_counts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_report, "PROGRESS_EVERY_S", 0.01)
    report, client, counts = Report(), Client(), Counts(read=4)
    client.reads.set()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(report.write, client.send, counts)
            while not client.lines:
                await anyio.sleep(0.005)
            report.end(counts, 0)
    assert client.lines[0] == {"read": 4, "stored": 0, "duplicates": 0, "errors": 0}
    assert client.lines[-1]["done"] is True


async def test_a_client_that_does_not_read_holds_nothing_up_and_costs_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer_report, "MAX_UNREAD", 3)
    report, client = Report(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(report.write, client.send, Counts())
        for number in range(1, 8):
            report.error(number, ChatError("bad_request", "wrong"))
        report.end(Counts(errors=7), 0, ChatError("not_stored", "away"))
        client.reads.set()
    assert [line["line"] for line in client.lines[:-1]] == [1, 2, 3]
    assert (client.lines[-1]["untold"], client.lines[-1]["done"]) == (4, False)
    assert client.lines[-1]["error"]["code"] == "not_stored"
