"""The client's WebSocket: opened, watched, and opened again until the server says not to."""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import anyio
import msgspec
import structlog
from anyio import CancelScope, create_task_group
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from chat_server.client_errors import ClientError, ServerError, TooMuchWaiting, Unreachable
from chat_server.client_events import (
    SUBPROTOCOL,
    VERSION,
    Event,
    GoAway,
    Refused,
    ServerPing,
    Welcome,
    decode_event,
)
from chat_server.client_runs import Frame
from chat_server.client_token import Token

log = structlog.get_logger(__name__)

SHORTEST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
STEADY_AFTER_S: Final = 5.0
"""A connection that lasted this long was a good one: the next pause is short again."""
OPEN_WITHIN_S: Final = 10.0
SILENCE_GRACE_S: Final = 10.0
"""What a silent server gets beyond its own heartbeat."""
WRITE_WITHIN_S: Final = 30.0
CLOSE_WITHIN_S: Final = 2.0
MAX_OUTGOING: Final = 256
"""Frames that may wait to be written; more than a client has to say after a welcome."""
MAX_EVENT_BYTES: Final = 8 * 1_048_576

AWAY_SPREAD_S: Final = 0.1
"""Within which the clients of a server that said it goes are back."""

_TOKEN_ENDED: Final = 4401
_NOT_AUTHENTICATED: Final = 4501
_UNWANTED: Final = range(4500, 4600)
"""Close codes that mean: do not come back."""
_OUR_FAULT: Final = {1002, 1003, 1007, 1009}
"""Close codes after which the same frames would end the next connection too (RFC 6455, 7.4.1)."""
_FINAL_STATUS: Final = range(300, 500)
_PASSING_STATUS: Final = {408, 425, 429}


def pause_s(attempt: int, chance: float | None = None) -> float:
    """How long to wait before reconnecting for the *attempt*-th time (from 0); half is chance.

    Without the chance all clients of a restarted server would return in the same moment.
    """
    share = random.random() if chance is None else chance  # noqa: S311  # no secret
    longest = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2.0 ** min(attempt, 16))
    return max(SHORTEST_PAUSE_S, longest * (0.5 + share / 2))


def websocket_address(url: str) -> str:
    """Where the WebSocket of the server at *url* is.

    Raises:
        ValueError: *url* is not an http or https address.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"{url!r} is not the address of a server, such as http://127.0.0.1:8000")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", "", ""))


class Listener(Protocol):
    """Who is told what happens on the connection; must not block."""

    @property
    def leaving(self) -> bool:
        """Whether events were lost on this connection: another one is opened instead."""

    @property
    def failure(self) -> ClientError | None:
        """Why there shall be no connection at all."""

    def hello(self) -> Frame:
        """What ``hello`` says beside who it is."""

    def connected(self, welcome: Welcome) -> None:
        """A connection is open; frames can be posted."""

    def received(self, event: Event) -> None:
        """An event came in, in the server's order."""

    def disconnected(self, reason: str, retry_in_s: float) -> None:
        """What was posted may be lost; the next attempt is made in *retry_in_s*."""


class Connection:
    """One user's line to the server; *listener* is told what happens on it."""

    def __init__(self, url: str, token: Token, listener: Listener) -> None:
        self._address = websocket_address(url)
        self._token = token
        self._listener = listener
        self._outgoing: deque[bytes] = deque()
        self._posted = anyio.Event()
        self._welcomed_at: float | None = None
        self._farewell: Refused | None = None
        self._goes_away = False
        self._tried = ""
        self._tried_new = False

    @property
    def online(self) -> bool:
        """Whether the server has said welcome, and nothing else since."""
        return self._welcomed_at is not None

    @property
    def has_room(self) -> bool:
        """Whether another frame can be posted."""
        return len(self._outgoing) < MAX_OUTGOING

    def post(self, frame: Frame) -> None:
        """Write *frame* once the ones before it are written.

        Raises:
            TooMuchWaiting: ``MAX_OUTGOING`` frames wait already.
        """
        if not self.has_room:
            raise TooMuchWaiting(f"{MAX_OUTGOING} frames wait to be written")
        self._outgoing.append(msgspec.json.encode(frame))
        self._posted.set()

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises:
            ServerError: the server does not want this client back (45xx).
            ClientError: the listener's own reason.
        """
        attempt = 0
        while True:
            try:
                reason = await self._live()
            finally:
                welcomed_at, self._welcomed_at = self._welcomed_at, None
                self._outgoing.clear()
            if welcomed_at is not None and time.monotonic() - welcomed_at > STEADY_AFTER_S:
                attempt = 0
            retry_in_s = pause_s(attempt)
            if self._goes_away and welcomed_at is not None:  # it waits for nobody: others serve
                retry_in_s = random.uniform(0, AWAY_SPREAD_S)  # noqa: S311  # no secret
            attempt += 1
            log.info("connection.lost", reason=reason, retry_in_s=round(retry_in_s, 2))
            self._listener.disconnected(reason, retry_in_s)
            await anyio.sleep(retry_in_s)

    async def _live(self) -> str:
        """One connection from its opening to its end; why it ended."""
        self._farewell, self._goes_away = None, False
        try:
            socket = await connect(
                self._address,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                max_size=MAX_EVENT_BYTES,
                open_timeout=OPEN_WITHIN_S,
                close_timeout=CLOSE_WITHIN_S,
                ping_interval=None,  # the protocol's own heartbeat watches the line
            )
        except InvalidStatus as refusal:
            status = refusal.response.status_code
            if status in _FINAL_STATUS and status not in _PASSING_STATUS:
                raise ServerError("forbidden", f"HTTP status {status} instead of a chat") from None
            return f"HTTP status {status}"
        except (OSError, InvalidHandshake, TimeoutError) as fault:
            return str(fault) or type(fault).__name__
        try:
            async with create_task_group() as tasks:
                tasks.start_soon(self._write, socket)
                reason = await self._read(socket)
                tasks.cancel_scope.cancel()
        finally:
            with CancelScope(shield=True):
                await socket.close()
        if self._listener.failure is not None:
            raise self._listener.failure
        code = socket.close_code
        if code in {_TOKEN_ENDED, _NOT_AUTHENTICATED} and await self._may_have_another_token():
            return "the token has ended"
        if code is not None and (code in _UNWANTED or code in _OUR_FAULT):
            raise self._dismissal(code, socket.close_reason or "")
        return reason

    async def _may_have_another_token(self) -> bool:
        """Whether there is another token than the one that was refused, or will be one later; one
        that was refused although it was new is the last.
        """
        if self._token.value == self._tried:
            if self._tried_new:
                return False
            try:
                if not await self._token.renew():
                    return False
            except Unreachable:
                return True
        self._tried_new = True
        return True

    async def _read(self, socket: ClientConnection) -> str:
        """Take what the server says until there is no more."""
        self._tried = self._token.value
        who = {"type": "hello", "v": VERSION, "token": self._tried, "client": "python"}
        hello = who | self._listener.hello()
        silence_s = OPEN_WITHIN_S
        try:
            with anyio.fail_after(OPEN_WITHIN_S):
                await socket.send(msgspec.json.encode(hello), text=True)
            reason = "events were lost"
            while not self._listener.leaving and self._listener.failure is None:
                with anyio.fail_after(silence_s):
                    frame = await socket.recv(decode=True)
                event = self._decode(frame)
                if isinstance(event, Welcome):
                    silence_s = event.heartbeat_s + SILENCE_GRACE_S
                    self._welcomed_at = time.monotonic()
                    self._tried_new = False
                    self._listener.connected(event)
                elif event is not None:
                    self._take(event)
        except ConnectionClosed as end:
            reason = f"closed with {end.rcvd.code}" if end.rcvd else "the connection broke"
        except TimeoutError:
            reason = f"nothing came for {silence_s:.0f} s"
        return reason

    @staticmethod
    def _decode(frame: str | bytes) -> Event | None:
        text = frame if isinstance(frame, str) else frame.decode(errors="replace")
        try:
            return decode_event(text)
        except msgspec.DecodeError as wrong:
            # What it was about is repaired when its reply ends, or by reading over HTTP.
            log.warning("event.unreadable", reason=str(wrong), chars=len(text))
            return None

    def _take(self, event: Event) -> None:
        if isinstance(event, ServerPing):
            self._answer_ping()
            return
        self._goes_away = self._goes_away or isinstance(event, GoAway)
        if isinstance(event, Refused) and event.re is None and event.run is None:
            self._farewell = event
        self._listener.received(event)

    def _answer_ping(self) -> None:
        if not self._outgoing:  # any frame is an answer
            self.post({"type": "pong"})

    async def _write(self, socket: ClientConnection) -> None:
        """Write what is posted; after a failure the reader sees the end."""
        try:
            while True:
                while not (self._outgoing and self.online):
                    self._posted = anyio.Event()
                    await self._posted.wait()
                with anyio.fail_after(WRITE_WITHIN_S):
                    await socket.send(self._outgoing.popleft(), text=True)
        except ConnectionClosed:
            return
        except TimeoutError:
            await socket.close()

    def _dismissal(self, code: int, reason: str) -> ServerError:
        if self._farewell is not None:
            said = self._farewell
            return ServerError(said.code, said.message, retryable=said.retryable, field=said.field)
        return ServerError("bad_frame" if code in _OUR_FAULT else "forbidden", reason or str(code))
