"""One tab: a copy, and the connections that keep it right whatever the line does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.chaos.wire_copy import Copy, Frame

RECONNECT_S: Final = 0.05
OPEN_WITHIN_S: Final = 5.0
ASK_AFTER_S: Final = 1.5
"""So long may nothing be heard before the tab asks whether anybody is there,"""
GIVE_UP_AFTER_S: Final = 3.0
"""and so long may that have no answer. A page has more patience; the machine is busy."""
REPEAT_AFTER_S: Final = 4.0
"""A command without an answer is sent again."""
STALLED_S: Final = 2.0
"""A reply of which nothing comes is asked for."""
SETTLED_WITHIN_S: Final = 60.0
LOOK_EVERY_S: Final = 0.1
RETRY_S: Final = 0.1
SENT_AWAY: Final = 4500
TOKEN_EXPIRED: Final = 4401
ATTACH: Final = "attach-"


class Unanswered(AssertionError):
    """A command was never answered, however often it was sent."""


@dataclass
class Pending:
    """A command without an answer yet."""

    frame: Frame
    again_at: float
    sent: bool = False
    answer: Frame | None = None
    settled: anyio.Event = field(default_factory=anyio.Event)


class Tab:
    """One of a user's connections at a time, for ever; all of it runs in ``run``."""

    def __init__(
        self,
        url: str,
        token: str,
        http: httpx.AsyncClient,
        *,
        renew: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        """*url*: of its line; *http* reads from the server itself. *renew* gives a new token when
        the server says that the old one has ended.
        """
        self.url = url
        self.copy = Copy()
        self.connections = 0
        self.closes: Counter[int] = Counter()
        self.refusals: Counter[str] = Counter()
        self.connected = False
        self.unread = False
        self._reading = False
        self._token = token
        self._http = http
        self._renew = renew
        self._pending: dict[str, Pending] = {}
        self._socket: ClientConnection | None = None
        self._heard_at = 0.0
        self._asked_at: float | None = None
        self._grew_at: dict[str, tuple[int, float]] = {}
        self._asked_for: dict[str, tuple[int, float]] = {}
        self._attaches = 0
        self._waking = anyio.Event()
        self._waking.set()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            await self._waking.wait()
            with suppress(OSError, WebSocketException, TimeoutError):
                await self._connection()
            await anyio.sleep(RECONNECT_S)

    @property
    def settled(self) -> bool:
        """Connected, and nothing is on its way that this tab knows of."""
        return self.connected and not (self.unread or self._reading or self._pending)

    def drop(self) -> None:
        """End the connection that there is, without a farewell; another one follows."""
        if self._socket is not None:
            self.connected = False
            self._socket.transport.abort()

    def sleep(self) -> None:
        """Have no connection until :meth:`wake`."""
        self._waking = anyio.Event()
        self.drop()

    def wake(self) -> None:
        self._waking.set()

    async def ask(self, frame: Frame) -> Frame:
        """Send a command until it is answered: ``accepted``, ``ok``, or a final ``error``.

        Raises:
            Unanswered: none came within ``SETTLED_WITHIN_S``.
        """
        pending = Pending(frame, anyio.current_time())
        self._pending[frame["id"]] = pending
        try:
            await self._send_due()
            with anyio.move_on_after(SETTLED_WITHIN_S):
                await pending.settled.wait()
        finally:
            del self._pending[frame["id"]]
        if pending.answer is None:
            raise Unanswered(f"{frame['type']} {frame['id']}: {dict(self.refusals)}")
        return pending.answer

    async def _connection(self) -> None:
        address = self.url.replace("http", "ws", 1) + "/ws"
        async with connect(
            address,
            open_timeout=OPEN_WITHIN_S,
            close_timeout=0.2,
            ping_interval=None,
            compression=None,
            max_size=None,
        ) as socket:
            try:
                await self._serve(socket)
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                await self._closed(code)
            finally:
                self.connected, self._socket = False, None
                socket.transport.abort()

    async def _closed(self, code: int) -> None:
        self.closes[code] += 1
        if SENT_AWAY <= code < SENT_AWAY + 100:
            self.copy.complain("sent away", f"closed with {code}")
        if code == TOKEN_EXPIRED and self._renew is not None:
            self._token = await self._renew()

    async def _serve(self, socket: ClientConnection) -> None:
        self.connections += 1
        hello = self.copy.hello(self._token)
        self.copy.note({"type": "(hello)", **hello.get("resume", {})})
        await socket.send(json.dumps(hello))
        with anyio.fail_after(OPEN_WITHIN_S):
            first = json.loads(await socket.recv())
            while first["type"] == "error":  # the reason stands in the close code, too
                first = json.loads(await socket.recv())
        if first["type"] != "welcome":
            return  # the line dropped it
        self.unread = self.copy.welcome(first) or self.unread
        self._socket = socket
        self._heard_at, self._asked_at = anyio.current_time(), None
        self._grew_at.clear()
        self._asked_for.clear()
        for pending in self._pending.values():
            pending.again_at = 0.0
        self.connected = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            tasks.start_soon(self._read_when_told)
            try:
                await self._listen(socket)
            finally:
                self.unread = self.unread or self._reading
                tasks.cancel_scope.cancel()

    async def _listen(self, socket: ClientConnection) -> None:
        while True:
            try:
                data = await socket.recv()
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                await self._closed(code)
                return
            self._heard_at, self._asked_at = anyio.current_time(), None
            frame = json.loads(data)
            self._answered(frame)
            if frame["type"] == "ping":
                await self._send({"type": "pong"})
            for wish, run in self.copy.heard(frame):
                if wish == "attach":
                    await self._attach(run)
                elif wish == "resume":
                    return
                else:
                    self.unread = True

    def _answered(self, frame: Frame) -> None:
        re = frame.get("re") or ""
        if frame["type"] == "error":
            self.refusals[frame["code"]] += 1
            self.unread = self.unread or re.startswith(ATTACH)
        pending = self._pending.get(re)
        if pending is None or (frame["type"] == "error" and "run" in frame):
            return
        if frame["type"] == "error" and frame["retryable"]:
            wait_s = max(RETRY_S, frame.get("retry_after_ms", 0) / 1000)
            pending.again_at = anyio.current_time() + wait_s
        elif frame["type"] in ("accepted", "ok", "error"):
            pending.answer = frame
            pending.settled.set()

    async def _watch(self) -> None:
        """Notice what does not come."""
        while True:
            await self._send_due()
            now = anyio.current_time()
            if self._asked_at is not None and now > self._asked_at + GIVE_UP_AFTER_S:
                self.drop()
                return
            if self._asked_at is None and now > self._heard_at + ASK_AFTER_S:
                self._asked_at = now
                await self._send({"type": "ping"})
            for reply in self.copy.unfinished():
                length, since = self._grew_at.get(reply.run, (-1, now))
                if length != len(reply.text):
                    self._grew_at[reply.run] = (len(reply.text), now)
                elif now > since + STALLED_S:
                    await self._attach(reply.run)
            await anyio.sleep(LOOK_EVERY_S)

    async def _attach(self, run: str) -> None:
        """Ask for what is missing of a reply, unless that was done just now."""
        have, now = len(self.copy.replies[run].text), anyio.current_time()
        asked_for, asked_at = self._asked_for.get(run, (-1, now))
        if asked_for == have and now < asked_at + STALLED_S:
            return
        self._asked_for[run] = (have, now)
        self._attaches += 1
        id_ = f"{ATTACH}{self._attaches}"
        await self._send({"type": "attach", "id": id_, "run": run, "offset": have})

    async def _send_due(self) -> None:
        now = anyio.current_time()
        for pending in list(self._pending.values()):
            if self.connected and pending.again_at <= now and not pending.settled.is_set():
                pending.again_at = now + REPEAT_AFTER_S
                frame = pending.frame
                if pending.sent and frame["type"] == "send":
                    frame = frame | {"retry": True}
                pending.sent = True
                await self._send(frame)

    async def _send(self, frame: Frame) -> None:
        if self._socket is None:
            return
        with suppress(ConnectionClosed), anyio.move_on_after(GIVE_UP_AFTER_S):
            await self._socket.send(json.dumps(frame, ensure_ascii=False))

    async def _read_when_told(self) -> None:
        while True:
            if self.unread:
                self.unread, self._reading = False, True
                try:
                    for conversation, messages, runs in await read_all(self._http, self._token):
                        self.copy.note({"type": "(read)", "messages": len(messages)})
                        self.copy.read(conversation, messages, runs)
                except (httpx.HTTPError, NotRead):
                    self.unread = True
                finally:
                    self._reading = False
            await anyio.sleep(LOOK_EVERY_S)


class NotRead(Exception):
    """The server does not answer with what was asked for just now."""


History = list[tuple[str, list[Frame], list[Frame]]]


async def read_all(http: httpx.AsyncClient, token: str, *, branches: bool = True) -> History:
    """All conversations of a user over HTTP: their messages, and the replies in the making.
    Without *branches* only what is shown of each, oldest first.

    Raises:
        NotRead, httpx.HTTPError: try again.
    """
    headers = {"Authorization": f"Bearer {token}"}
    found: History = []
    listed = await _get(http, "/api/conversations?limit=200", headers)
    for conversation in listed["conversations"]:
        path = f"/api/conversations/{conversation['id']}/messages"
        messages, runs = await _read_branch(http, path, headers, "")
        known = {message["id"] for message in messages}
        aside = _aside(messages)
        while branches and aside:
            head = aside.pop()
            if head not in known:
                more, _ = await _read_branch(http, path, headers, head)
                messages += [message for message in more if message["id"] not in known]
                known |= {message["id"] for message in more} | {head}
                aside |= _aside(more) - known
        found.append((conversation["id"], messages, runs))
    return found


def _aside(messages: list[Frame]) -> set[str]:
    """What stands beside them."""
    return {id_ for message in messages for id_ in message.get("branches", ())}


async def _read_branch(
    http: httpx.AsyncClient, path: str, headers: dict[str, str], head: str
) -> tuple[list[Frame], list[Frame]]:
    """One branch of a conversation, the shown one without *head*."""
    messages: list[Frame] = []
    runs: list[Frame] = []
    before: str | None = ""
    while before is not None:
        query = {"limit": "200", "before": before, "head": head}
        asked = "&".join(f"{key}={value}" for key, value in query.items() if value)
        body = await _get(http, f"{path}?{asked}", headers)
        messages[:0], runs, before = body["messages"], body["runs"], body["before"]
    return messages, runs


async def _get(http: httpx.AsyncClient, path: str, headers: dict[str, str]) -> Any:
    answer = await http.get(path, headers=headers)
    if answer.status_code != httpx.codes.OK:
        raise NotRead(f"{path}: {answer.status_code}")
    return answer.json()
