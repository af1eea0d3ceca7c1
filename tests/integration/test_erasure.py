"""Erasing against the real server: no byte is left, and nobody else notices."""

from __future__ import annotations

import array
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from memory.upkeep.ledger import FILE
from tests.integration.bot import Bot, bot
from tests.integration.running_server import RunningServer, running_server
from tests.stub_model import Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

CANARY = "zanzibar-quixotry"
SAID = f'My {CANARY} is "hidden" \u00e4\u8a9e'
VECTOR_BYTES = 64
SEARCHED = 5
"""So much of a vector is looked for: less than all of it is found too."""

Fields = dict[str, Any]


def canary_forms() -> list[bytes]:
    """The text as it may stand in a file."""
    escaped = json.dumps(SAID)[1:-1].encode()
    return [CANARY.encode(), SAID.encode(), escaped, CANARY.encode("utf-16-le")]


def files(folder: Path) -> Iterable[Path]:
    parts = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in parts if "models" not in path.relative_to(folder).parts]


def holders(folder: Path, needles: Iterable[bytes]) -> list[str]:
    wanted = list(needles)
    found = []
    for path in files(folder):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if any(needle in content for needle in wanted):
            found.append(str(path.relative_to(folder)))
    return found


class Vectors:
    """The raw bytes of vectors, read from Chroma's log and from its answers before the erasure."""

    def __init__(self, server: RunningServer, data_dir: Path) -> None:
        arguments = Path(f"/proc/{server.child_pid('chroma')}/cmdline").read_bytes().split(b"\0")
        port = int(arguments[arguments.index(b"--port") + 1])
        self._base = (
            f"http://127.0.0.1:{port}/api/v2/tenants/default_tenant/databases/default_database"
        )
        self._database = data_dir / "chroma" / "chroma.sqlite3"
        self.needles: set[bytes] = set()

    def gather(self, collection: str, ids: list[str]) -> None:
        """Take in the vectors of *ids* as they were sent, and as Chroma has them."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            wanted = set(ids)
            for record, vector in connection.execute("SELECT id, vector FROM embeddings_queue"):
                if record in wanted and vector is not None:
                    self._add(vector)
        key = httpx.get(f"{self._base}/collections/{collection}", timeout=10).json()["id"]
        found = httpx.post(
            f"{self._base}/collections/{key}/get",
            json={"ids": ids, "include": ["embeddings"]},
            timeout=20,
        ).json()
        for row in found["embeddings"]:
            self._add(array.array("f", row).tobytes())

    def _add(self, vector: bytes) -> None:
        for start in (0, len(vector) // 2, len(vector) - VECTOR_BYTES):
            self.needles.add(vector[start : start + VECTOR_BYTES])


class Others:
    """People who talk all the time; what is refused them is remembered."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.said: dict[str, list[str]] = {}
        self.refused: list[Fields] = []

    @asynccontextmanager
    async def talking(self, count: int) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            stop = anyio.Event()
            for number in range(count):
                tasks.start_soon(self._talk, number, stop)
            yield
            stop.set()

    async def say_more(self) -> None:
        """Return when each has said something more, and at least as much as a search returns."""
        wanted = {token: max(len(said) + 1, SEARCHED) for token, said in self.said.items()}
        with anyio.fail_after(60):
            while any(len(self.said[token]) < least for token, least in wanted.items()):
                await anyio.sleep(0.05)

    async def _talk(self, number: int, stop: anyio.Event) -> None:
        token = await anyio.to_thread.run_sync(self._server.session)
        own = self.said.setdefault(token, [])
        async with bot(self._server.url, token) as client:
            turn = 0
            while not stop.is_set():
                text = f"Person {number} saw boat {turn} leave the harbour."
                answer = await client.say(text, conversation=f"boats-{number}")
                if answer["type"] == "error":
                    if answer["code"] != "rate_limited":
                        self.refused.append(answer)
                else:
                    own.append(text)
                    await client.done(answer["run"])
                turn += 1
                await anyio.sleep(0.05)


def settings(environment: dict[str, str], **more: str) -> dict[str, str]:
    return {
        **environment,
        "TANDEM_LIMITS__PER_USER": "10000",
        "TANDEM_LIMITS__GLOBAL": "10000000",
        "TANDEM_LIMITS__HTTP": "100000/minute",
        **more,
    }


def import_lines(server: RunningServer, token: str, lines: list[Fields]) -> None:
    content = b"".join(json.dumps(it).encode() + b"\n" for it in lines)
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{server.url}/api/import", headers=headers, content=content, timeout=120)
    assert answer.status_code == 200, answer.text
    assert '"errors":0' in answer.text.replace(" ", ""), answer.text[-300:]


def delete(server: RunningServer, path: str, token: str, **body: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request("DELETE", f"{server.url}{path}", headers=headers, json=body, timeout=30)


async def finished(server: RunningServer, token: str, erasure: str, within_s: float = 60) -> Fields:
    with anyio.move_on_after(within_s):
        while True:
            answer = await anyio.to_thread.run_sync(server.get, f"/api/erasures/{erasure}", token)
            found: Fields = answer.json()
            if answer.status_code == 200 and found["finished_at"] is not None:
                return found
            await anyio.sleep(0.2)
    raise AssertionError("".join(line for line in server.output if "turn.finished" not in line))


def own_ids(data_dir: Path, user: str) -> list[str]:
    database = data_dir / "chroma" / "chroma.sqlite3"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT e.embedding_id FROM embedding_metadata m JOIN embeddings e ON e.id = m.id "
            "WHERE m.key = 'user_id' AND m.string_value = ? AND EXISTS "
            "(SELECT 1 FROM embedding_metadata k WHERE k.id = e.id AND k.key = 'page')",
            (user,),
        )
        return [row[0] for row in rows]


async def talk_about_the_canary(client: Bot) -> Fields:
    for turn in range(3):
        done = await client.ask(f"{SAID} number {turn}", conversation="secrets")
    return done


@pytest.mark.parametrize(
    ("imported", "placement"),
    [(5, "sharded"), (450, "sharded"), (450, "per_user")],
    ids=["not in the index yet", "in the index", "a collection of one's own"],
)
async def test_no_byte_of_a_user_is_left_while_others_go_on(
    data_dir: Path,
    stub: StubModel,
    model_environment: dict[str, str],
    imported: int,
    placement: str,
) -> None:
    stub.mode = Mode(tokens=5, echo=CANARY)
    environment = settings(model_environment, TANDEM_CHROMA__PLACEMENT=placement)
    with running_server(data_dir, environment) as server:
        server.wait_ready()
        token = server.session()
        others = Others(server)
        lines = [
            {
                "id": f"old-{number}",
                "conversation": "old",
                "role": "user",
                "text": f"{SAID} {number}",
            }
            for number in range(imported)
        ]
        await anyio.to_thread.run_sync(import_lines, server, token, lines)
        async with others.talking(4), bot(server.url, token) as client:
            user = client.welcome["user"]
            done = await talk_about_the_canary(client)
            assert holders(data_dir, canary_forms())
            ids = own_ids(data_dir, user)
            assert len(ids) == imported + 6
            vectors = Vectors(server, data_dir)
            collection = "user_00" if placement == "sharded" else f"user_{user}"
            vectors.gather(collection, ids)
            assert holders(data_dir, vectors.needles)

            single = delete(server, f"/api/messages/{done['message']['id']}", token)
            assert single.status_code == 202
            assert delete(server, "/api/me", token, confirm="somebody").status_code == 400
            answer = delete(server, "/api/me", token, confirm=user)
            assert answer.status_code == 202
            assert "Max-Age=0" in answer.headers["set-cookie"]
            assert server.get("/api/conversations", token).json()["conversations"] == []
            assert server.get(f"/api/search?q={CANARY}", token).json()["items"] == []
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await client.socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4501

            receipt = await finished(server, token, answer.json()["erasure"])
            assert receipt["files"] == "scrubbed"
            assert holders(data_dir, canary_forms()) == []
            assert holders(data_dir, vectors.needles) == []
            assert holders(data_dir, [user.encode()]) == []
            await others.say_more()
        assert others.refused == []
        for their_token, said in others.said.items():
            exported = server.get("/api/export", their_token).text
            kept = [json.loads(row) for row in exported.splitlines()]
            assert [it["text"] for it in kept if it["role"] == "user"] == said
            query = f"/api/search?q=boat+leave+harbour&k={SEARCHED}"
            assert len(server.get(query, their_token).json()["items"]) == SEARCHED

        async with bot(server.url, token) as client:
            await client.ask("I begin anew.")
        (listed,) = server.get("/api/conversations", token).json()["conversations"]
        assert listed["title"] == "I begin anew."
    assert holders(data_dir, [*canary_forms(), *vectors.needles]) == []


async def test_one_message_is_erased_and_what_was_said_around_it_stays(
    server: RunningServer, data_dir: Path
) -> None:
    token = server.session()
    async with bot(server.url, token) as client, bot(server.url, token) as tab:
        first = await client.ask("I keep bees.")
        await client.ask(SAID, conversation=first["conversation"])
        await client.ask("And hens.", conversation=first["conversation"])
        page = server.get(f"/api/conversations/{first['conversation']}/messages", token).json()
        (secret,) = [it["id"] for it in page["messages"] if it["text"] == SAID]
        assert delete(server, f"/api/messages/{secret}", server.session()).status_code == 404
        answer = delete(server, f"/api/messages/{secret}", token)
        assert answer.status_code == 202
        told = (await tab.until_type("message.deleted"))["message"]
        assert (told["id"], told["text"], told["status"]) == (secret, "", "deleted")
        page = server.get(f"/api/conversations/{first['conversation']}/messages", token).json()
        gone = [it for it in page["messages"] if it["id"] == secret]
        assert [(it["text"], it["status"]) for it in gone] == [("", "deleted")]
        assert len(page["messages"]) == 6
        await finished(server, token, answer.json()["erasure"])
        assert delete(server, f"/api/messages/{secret}", token).status_code == 404
        done = await client.ask("And a goat.", conversation=first["conversation"])
    assert done["status"] == "completed"
    assert holders(data_dir, [SAID.encode()]) == []


async def test_a_killed_server_finishes_what_it_began(
    data_dir: Path, model_environment: dict[str, str]
) -> None:
    environment = settings(model_environment)
    with running_server(data_dir, environment) as server:
        server.wait_ready()
        token = server.session()
        async with bot(server.url, token) as client:
            user = client.welcome["user"]
            await talk_about_the_canary(client)
        erasure = delete(server, "/api/me", token, confirm=user).json()["erasure"]
        server.process.kill()
    assert (data_dir / FILE).stat().st_mode & 0o777 == 0o600
    with running_server(data_dir, environment) as server:
        server.wait_ready()
        assert server.get("/api/conversations", token).json()["conversations"] == []
        await finished(server, token, erasure)
    assert holders(data_dir, canary_forms()) == []
    assert holders(data_dir, [user.encode()]) == []


async def test_operators_erase_for_others_and_see_no_names(
    server: RunningServer, data_dir: Path
) -> None:
    token = server.session()
    async with bot(server.url, token) as client:
        user = client.welcome["user"]
        await client.ask(SAID)
    admin = (data_dir / "secrets" / "admin-token").read_text().strip()
    headers = {"Authorization": f"Bearer {admin}"}
    url = f"{server.url}/admin/erase"
    body = {"user": user, "confirm": user}
    assert httpx.post(url, json=body, timeout=10).status_code == 401
    assert httpx.post(url, json={"user": user}, headers=headers, timeout=10).status_code == 400
    answer = httpx.post(url, json=body, headers=headers, timeout=10)
    assert answer.status_code == 202
    await finished(server, token, answer.json()["erasure"])
    listed = httpx.get(f"{server.url}/admin/erasures", headers=headers, timeout=10)
    assert [it["erasure"] for it in listed.json()["erasures"]] == [answer.json()["erasure"]]
    assert user not in listed.text
    assert holders(data_dir, canary_forms()) == []
