from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from chat_server import client_exchange
from chat_server.client import Client, OutboxFailed, ServerError, TooMuchWaiting
from chat_server.client_outbox import OutboxFile
from chat_server.client_runs import Frame
from tests.chat_server.scripted_server import opened, scripted_server


def said(id_: str) -> Frame:
    return {"type": "send", "id": id_, "text": f"This is {id_}.", "conversation": "c1"}


def waiting(path: Path) -> list[object]:
    """Ids of what is in the file; nobody else has it."""
    file = OutboxFile(path)
    ids = [frame["id"] for frame in file.frames()]
    file.close()
    return ids


def test_what_is_kept_is_there_for_the_next_process_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    file = OutboxFile(path)
    file.change([said("b"), said("a")], [])
    file.change([said("c")], ["b"])
    file.change([said("a")], ["unheard-of"])
    file.claim("ana")
    file.close()
    again = OutboxFile(path)
    assert again.frames() == [said("a"), said("c")]
    assert again.user == "ana"
    again.close()


def test_only_its_owner_may_read_it_and_what_was_settled_is_not_in_it(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    path.touch(mode=0o644)
    file = OutboxFile(path)
    file.change([said("a")], [])
    for part in tmp_path.iterdir():
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
    file.change([], ["a"])
    file.close()
    assert [part.name for part in tmp_path.iterdir()] == ["outbox"]
    assert b"This is a." not in path.read_bytes()


def test_one_process_at_a_time_has_it(tmp_path: Path) -> None:
    file = OutboxFile(tmp_path / "outbox")
    with pytest.raises(OutboxFailed, match="locked"):
        OutboxFile(tmp_path / "outbox")
    file.close()
    OutboxFile(tmp_path / "outbox").close()


def test_what_is_no_outbox_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Not a database, but dear to somebody. " * 100)
    before = path.read_bytes()
    with pytest.raises(OutboxFailed, match=r"notes\.txt"):
        OutboxFile(path)
    assert path.read_bytes() == before
    with pytest.raises(OutboxFailed):
        OutboxFile(tmp_path / "no folder" / "outbox")


WRITER = """
import sys
from pathlib import Path
from chat_server.client_outbox import OutboxFile
file = OutboxFile(Path(sys.argv[1]))
for n in range(100_000):
    file.change([{"type": "send", "id": f"m{n}", "text": "x" * 500}], [])
    print(n, flush=True)
"""


def killed_while_writing(path: Path, lines: int) -> int:
    """The last message that the writer said was on disk before it was killed."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(lines):
            last = writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split("\n")
    complete = [line for line in rest[:-1] if line]
    return int(complete[-1] if complete else last)


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    last = killed_while_writing(path, 40)
    assert waiting(path)[: last + 1] == [f"m{n}" for n in range(last + 1)]


@pytest.mark.parametrize("cut", [1, 600, 3_000, 4_200])
def test_a_torn_tail_costs_only_what_was_torn(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "outbox"
    killed_while_writing(path, 20)
    log = tmp_path / "outbox-wal"
    os.truncate(log, log.stat().st_size - cut)
    ids = waiting(path)
    assert len(ids) >= 17
    assert ids == [f"m{n}" for n in range(len(ids))]
    assert path.stat().st_size


async def test_a_message_is_on_disk_before_it_is_sent_and_gone_when_it_is_accepted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "outbox"
    async with scripted_server() as server:
        client = Client(server.url, token="t", outbox=path)
        async with opened(client, server) as peer:
            reply = client.send("Hello?", conversation="c1")
            frame = await peer.receive()
            await reply.written_down()
            await peer.accept(frame)
            await reply.accepted()
            left = client.send("And?", conversation="c1")
            await left.written_down()
    assert waiting(path) == [left.id]


async def test_the_next_process_sends_what_was_left_under_the_same_id(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    async with scripted_server() as server:
        first = Client(server.url, token="t", outbox=path)
        async with opened(first, server) as peer:
            replies = [first.send(f"Message {n}", conversation="c1") for n in range(3)]
            sent = [await peer.receive() for _ in range(3)]
            await peer.accept(sent[0])
            await replies[0].accepted()
        second = Client(server.url, token="t", outbox=path)
        async with opened(second, server) as peer:
            assert [reply.id for reply in second.recovered] == [reply.id for reply in replies[1:]]
            for frame in sent[1:]:
                assert await peer.receive() == {**frame, "retry": True}
                await peer.accept(frame, run=f"r-{frame['id']}")
            for reply in second.recovered:
                await reply.accepted()
    assert waiting(path) == []


async def test_what_is_refused_for_now_is_sent_again_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_exchange, "FIRST_REPEAT_S", 0.05)
    path = tmp_path / "outbox"
    async with scripted_server() as server:
        client = Client(server.url, token="t", outbox=path)
        async with opened(client, server) as peer:
            replies = [client.send(f"Message {n}") for n in range(3)]
            for frame in reversed([await peer.receive() for _ in range(3)]):
                await peer.send(
                    type="error", re=frame["id"], code="busy", message="no", retryable=True
                )
            again = [await peer.receive() for _ in range(3)]
            assert [frame["id"] for frame in again] == [reply.id for reply in replies]
            assert all(frame["retry"] for frame in again)


async def test_what_is_refused_for_good_is_told_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    async with scripted_server() as server:
        client = Client(server.url, token="t", outbox=path)
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            frame = await peer.receive()
            await peer.send(type="error", re=frame["id"], code="id_conflict", message="no")
            with pytest.raises(ServerError, match="id_conflict"):
                await reply.result()
    assert waiting(path) == []


async def test_more_may_wait_than_the_server_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_exchange, "MAX_KEPT", 30)
    async with scripted_server() as server:
        client = Client(server.url, token="t", outbox=tmp_path / "outbox")
        async with opened(client, server) as peer:
            replies = [client.send(f"Message {n}") for n in range(30)]
            with pytest.raises(TooMuchWaiting):
                client.send("One too many")
            for reply in replies:
                await peer.accept(await peer.receive(), run=f"r-{reply.id}")
            for reply in replies:
                await reply.accepted()


async def test_messages_of_another_user_are_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    async with scripted_server() as server:
        client = Client(server.url, token="t", outbox=path)
        async with opened(client, server):
            left = client.send("I am Ana.")
            await left.written_down()
        server.welcome["user"] = "eve"
        with pytest.raises(OutboxFailed, match="another user"):
            async with Client(server.url, token="u", outbox=path):
                await anyio.sleep_forever()
    assert waiting(path) == [left.id]


async def test_a_disk_that_takes_no_more_is_said_to_whoever_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OutboxFailed("the disk is full")

    async with scripted_server() as server:
        client = Client(server.url, token="t", outbox=tmp_path / "outbox")
        async with opened(client, server):
            monkeypatch.setattr(OutboxFile, "change", full)
            with pytest.raises(OutboxFailed, match="full"):
                await client.send("Hello?").accepted()
            monkeypatch.undo()
            await client.send("Again?").written_down()
