"""A user who talks without end, resends what is not known to be stored, and writes a log."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import anyio
import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.chaos.logbook import (
    Accepted,
    Done,
    Joined,
    Line,
    Logbook,
    Met,
    Read,
    Refused,
    Sent,
    Shown,
    Unknown,
)

ANSWER_WITHIN_S: Final = 15.0
RECONNECT_S: Final = 0.05
RETRY_S: Final = 0.1
CONVERSATIONS: Final = 3
"""So many at the same time; after ``TALK`` messages new ones are begun."""
TALK: Final = 60
GIVE_UP: Final = 0.03
"""The share of unknown outcomes after which the user says something else."""
SAY_TWICE: Final = 0.03
SEARCH: Final = 0.05


class Message(NamedTuple):
    """What is to be said."""

    id: str
    conversation: str
    text: str


class Chatter:
    """One user with one connection, and one message at a time on its way."""

    def __init__(
        self,
        url: str,
        token: str,
        log: Logbook,
        *,
        pace_s: float,
        seed: int,
        on_accepted: Callable[[float, float], None] = lambda _sent, _accepted: None,
    ) -> None:
        """*pace_s*: from one message to the next. *on_accepted* hears when a message that was
        accepted was sent, and when it was accepted.
        """
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._token = token
        self._log = log
        self._pace_s = pace_s
        self._random = random.Random(seed)
        self._on_accepted = on_accepted
        self._name = f"u{seed}x{self._random.randrange(1 << 24):06x}"
        self.canary = f"{self._name}canary"
        self._number = 0
        self._pending: Message | None = None
        self._tried = False
        self._answer: dict[str, Any] | None = None
        self._answered = anyio.Event()
        self._running: set[str] = set()
        self._stopping = False
        self.conversations: list[str] = []
        log.write(Joined, canary=self.canary)

    def stop(self) -> None:
        """Say nothing new; what is on its way is settled first."""
        self._stopping = True

    async def run(self) -> None:
        """Talk until stopped, over as many connections as it takes."""
        while not self._stopping or self._pending is not None:
            with suppress(OSError, WebSocketException, TimeoutError):
                await self._talk()
            await anyio.sleep(RECONNECT_S)

    async def _talk(self) -> None:
        address = self._url.replace("http", "ws", 1) + "/ws"
        async with connect(address, max_size=None, open_timeout=5, close_timeout=1) as socket:
            await socket.send(json.dumps({"type": "hello", "v": 1, "token": self._token}))
            with anyio.fail_after(ANSWER_WITHIN_S):
                json.loads(await socket.recv())
            self._running.clear()
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._listen, socket, tasks.cancel_scope)
                    with suppress(WebSocketException, TimeoutError):
                        await self._say_all(socket)
                    tasks.cancel_scope.cancel()
            finally:
                if self._pending is not None and self._tried and self._answer is None:
                    self._log.write(Unknown, id=self._pending.id)

    async def _listen(self, socket: ClientConnection, scope: anyio.CancelScope) -> None:
        with suppress(WebSocketException, OSError):
            async for data in socket:
                self._heard(json.loads(data))
        scope.cancel()

    def _heard(self, frame: dict[str, Any]) -> None:
        pending = self._pending
        match frame["type"]:
            case "accepted" | "error" if pending and frame.get("re") == pending.id:
                if "run" in frame and frame["type"] == "error":
                    return  # the model's fault: the message is stored
                self._answer = frame
                self._answered.set()
            case "run.started":
                self._running.add(frame["run"])
            case "run.delta":
                self._log.write(Shown, run=frame["run"], offset=frame["offset"], text=frame["text"])
            case "run.done":
                self._running.discard(frame["run"])
                text, stored = frame["message"]["text"], frame.get("stored", True)
                self._log.write(Done, run=frame["run"], text=text, stored=stored)
            case _:
                pass

    async def _say_all(self, socket: ClientConnection) -> None:
        while not self._stopping or self._pending is not None:
            began = anyio.current_time()
            again = self._pending is not None
            message = self._pending = self._pending or self._next()
            if await self._say(socket, message, again=again):
                self._pending, self._tried = None, False
                await anyio.sleep(max(0.0, began + self._pace_s - anyio.current_time()))
            else:
                await anyio.sleep(RETRY_S)
        with anyio.move_on_after(ANSWER_WITHIN_S):
            while self._running:
                await anyio.sleep(RECONNECT_S)

    def _next(self) -> Message:
        self._number += 1
        talk = self._number // TALK * CONVERSATIONS + self._number % CONVERSATIONS
        conversation = f"{self._name}-{talk}"
        if conversation not in self.conversations:
            self.conversations.append(conversation)
        text = f"{self.canary} says number {self._number} and word {self._random.random():.6f}"
        return Message(f"{self._name}-{self._number}", conversation, text)

    async def _say(self, socket: ClientConnection, message: Message, *, again: bool) -> bool:
        """Send it once; whether it is settled."""
        self._answer, self._answered = None, anyio.Event()
        frame = {"type": "send", **message._asdict()}
        if again:
            frame["retry"] = True
        self._tried = True
        sent = self._log.write(Sent, **message._asdict())
        await socket.send(json.dumps(frame))
        with anyio.move_on_after(ANSWER_WITHIN_S):
            await self._answered.wait()
        answer: dict[str, Any] | None = self._answer
        if answer is None:
            raise TimeoutError("no answer")
        if answer["type"] == "error":
            self._log.write(Refused, id=message.id, code=answer["code"])
            unknown = answer["code"] == "store_unknown"
            return not answer["retryable"] or (unknown and self._random.random() < GIVE_UP)
        accepted = self._log.write(
            Accepted,
            id=message.id,
            message=answer["message"],
            run=answer["run"],
            duplicate=answer["duplicate"],
        )
        self._on_accepted(sent.t, accepted.t)
        if self._random.random() < SEARCH:
            await self.search(f"number {self._random.randrange(self._number + 1)}")
        return again or self._random.random() >= SAY_TWICE

    async def search(self, query: str) -> None:
        """Look for something, and note what is found; a failure is no finding."""
        with suppress(httpx.HTTPError):
            async with httpx.AsyncClient(timeout=5) as http:
                address = f"{self._url}/api/search"
                answer = await http.get(address, params={"q": query}, headers=self._headers)
                if answer.status_code == httpx.codes.OK:
                    texts = tuple(item["text"] for item in answer.json()["items"])
                    self._log.write(Met, texts=texts)

    async def read_again(self) -> None:
        """Note the whole of each conversation as the server tells it now."""
        async with httpx.AsyncClient(timeout=30, headers=self._headers) as http:
            for conversation in self.conversations:
                lines = await self._read(http, conversation)
                self._log.write(Read, conversation=conversation, lines=lines)

    async def _read(self, http: httpx.AsyncClient, conversation: str) -> tuple[Line, ...]:
        lines: list[Line] = []
        before: str | None = None
        while True:
            query = {"limit": "200", **({"before": before} if before else {})}
            address = f"{self._url}/api/conversations/{conversation}/messages"
            answer = await http.get(address, params=query)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return ()  # nothing of it was ever stored
            answer.raise_for_status()
            body = answer.json()
            lines[:0] = [Line(said["id"], said["text"]) for said in body["messages"]]
            before = body["before"]
            if before is None:
                return tuple(lines)
