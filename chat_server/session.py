"""One connection from ``hello`` to its end: reads frames, passes them on, keeps in touch."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

import structlog
from anyio import CancelScope, create_task_group
from starlette.websockets import WebSocket, WebSocketDisconnect

from chat_server.authentication import Identity, Session
from chat_server.command_rate import DROPPED_DRAFT, CommandRate
from chat_server.errands import Command, Errands
from chat_server.errors import ChatError
from chat_server.events import (
    LimitsState,
    Ok,
    ServerEvent,
    ServerPing,
    ServerPong,
    Welcome,
    error_event,
)
from chat_server.fanout import Joined
from chat_server.frames import frame_of
from chat_server.greeting import greet, renewed
from chat_server.outbox import Outbox
from chat_server.protocol import (
    HEARTBEAT_S,
    HELLO_WITHIN_S,
    VERSION,
    AnyClientFrame,
    Auth,
    BadFrame,
    Draft,
    Hello,
    Ping,
    Pong,
    RunPoint,
    parse_frame,
)
from chat_server.state import State

log = structlog.get_logger(__name__)

PONG_WITHIN_S: Final = 10.0
FIRST_PING: Final = (0.5, 1.0)
"""After which share of ``HEARTBEAT_S`` a connection may be asked first, so that a crowd which came
at once is not asked at once."""

_PING: Final = frame_of(ServerPing())
_PONG: Final = frame_of(ServerPong())


class ChatSession:
    """Serves one accepted WebSocket; leaves no task behind.

    Messages of one connection are handled in order; everything else at once. What was accepted
    goes on when the connection ends.
    """

    __slots__ = (
        "_asked_at",
        "_errands",
        "_heard_at",
        "_id",
        "_opened_at",
        "_outbox",
        "_rate",
        "_session",
        "_silence_s",
        "_socket",
        "_state",
    )

    def __init__(self, socket: WebSocket, state: State, outbox: Outbox) -> None:
        self._socket = socket
        self._state = state
        self._outbox = outbox
        self._opened_at = self._heard_at = time.monotonic()
        self._asked_at: float | None = None
        self._silence_s = HEARTBEAT_S * random.uniform(*FIRST_PING)  # noqa: S311  # no secret
        self._rate = CommandRate(self._heard_at)
        self._id = f"{random.getrandbits(64):016x}"  # a name for the log, no secret
        self._session: Session | None = None
        self._errands: Errands | None = None

    async def run(self) -> ChatError | None:
        """Serve until either side ends it; why it is to be closed, ``None``: the client left."""
        clock = self._state["connections"].clock
        clock.set(self, self._heard_at + HELLO_WITHIN_S)
        try:
            with CancelScope() as scope:
                self._outbox.on_closed = scope.cancel
                if not self._outbox.is_closed:
                    await self._serve()
        except WebSocketDisconnect:
            self._outbox.close(None)
        except ChatError as reason:
            self._outbox.close(reason)
        finally:
            self._outbox.on_closed = None
            clock.forget(self)
        if self._session is not None:
            end, lasted_s = self._outbox.closed_for, time.monotonic() - self._opened_at
            log.info(
                "connection.closed",
                connection=self._id,
                user=self._identity.user,
                code=end.code if end else "left",
                lasted_s=round(lasted_s, 1),
            )
        return self._outbox.closed_for

    async def _serve(self) -> None:
        """Read ``hello``, then everything else, until the client leaves.

        Raises:
            ChatError: the connection cannot go on; it carries the close code.
            WebSocketDisconnect: the client left.
        """
        state = self._state
        hello, session = greet(await self._receive(), self._socket.headers, state["authenticator"])
        identity = session.identity
        self._session = session
        with state["connections"].of_user(identity.user):
            async with state["fanout"].joined(identity.user, self._outbox, hello.resume) as joined:
                self._write(self._welcome(session, joined))
                self._outbox.put_missed(joined.missed)
                state["turns"].warm(identity.user)
                self._set_clock()
                log.debug("connection.opened", connection=self._id, client=hello.client)
                await self._read_frames(hello.runs)

    def _welcome(self, session: Session, joined: Joined) -> Welcome:
        limiter, user = self._state["limiter"], session.identity.user
        return Welcome(
            v=VERSION,
            user=user,
            connection=self._id,
            resumed=joined.resumed,
            epoch=joined.epoch,
            seq=joined.seq,
            heartbeat_s=HEARTBEAT_S,
            max_frame_bytes=self._state["settings"].server.max_frame_bytes,
            limits=LimitsState(
                user=limiter.user_allowance(user), global_=limiter.global_allowance()
            ),
        )

    async def _read_frames(self, runs: Sequence[RunPoint]) -> None:
        """Handle what the client sends until it leaves; tasks are there once one is needed."""
        command: Command | None = None
        while command is None and not runs:
            command = await self._next_command()
        # Before the tasks begin, so that what they log names connection and user.
        structlog.contextvars.bind_contextvars(connection=self._id, user=self._identity.user)
        async with create_task_group() as tasks:
            self._errands = Errands(self._state, self._identity, tasks, self._write, self._refuse)
            self._errands.attach_all(runs)
            try:
                await self._carry_out_all(command, self._errands)
            except WebSocketDisconnect:
                self._outbox.close(None)  # which ends the tasks as well
            except ChatError as reason:
                self._outbox.close(reason)

    async def _carry_out_all(self, command: Command | None, errands: Errands) -> None:
        while True:
            if command is not None and not await errands.carry_out(command):
                self._spend(DROPPED_DRAFT)
            command = await self._next_command()

    async def _next_command(self) -> Command | None:
        """Read a frame, and answer it if that needs no waiting; else it is returned."""
        try:
            frame = await self._receive()
        except UnreadableFrame:
            raise
        except BadFrame as error:
            self._refuse(error, re=error.re)
            return None
        match frame:
            case Ping():
                self._outbox.put(_PONG)
            case Pong() | None:
                pass
            case Auth():
                self._renew(frame)
            case Hello():
                self._refuse(BadFrame("hello was said already", field="type"))
            case _:
                return frame
        return None

    async def _receive(self) -> AnyClientFrame | None:
        """The next frame; ``None`` for a type that is not known.

        Raises:
            BadFrame: it cannot be used.
            ChatError: there were too many.
            UnreadableFrame: it is not even text.
            WebSocketDisconnect: the client left.
        """
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._heard_at = time.monotonic()
        text = message.get("text")
        if text is None:
            raise UnreadableFrame("frames are text, not binary")
        try:
            frame = parse_frame(text)
        except BadFrame:
            self._spend()
            raise
        if not isinstance(frame, Draft):  # drafts have a limit of their own
            self._spend()
        return frame

    def _spend(self, cost: float = 1.0) -> None:
        if not self._rate.spend(self._heard_at, cost):
            raise ChatError(
                "too_many_commands",
                "more frames than one connection may send; reconnect after a pause",
                retry_after_ms=int(1000 * self._rate.full_in_s(self._heard_at)),
            )

    def _renew(self, auth: Auth) -> None:
        try:
            self._session = renewed(auth, self._known, self._state["authenticator"])
        except ChatError as error:
            self._refuse(error, re=auth.id)
            return
        if self._errands is not None:
            self._errands.identity = self._session.identity
        self._write(Ok(re=auth.id))
        self._set_clock()

    @property
    def _identity(self) -> Identity:
        return self._known.identity

    @property
    def _known(self) -> Session:
        if self._session is None:
            raise RuntimeError("nothing is asked for before hello")
        return self._session

    def _set_clock(self) -> None:
        silent_at = self._heard_at + self._silence_s
        self._state["connections"].clock.set(self, min(silent_at, self._ends_at))

    @property
    def _ends_at(self) -> float:
        """When the session ends, on the monotonic clock; the other one may be set meanwhile."""
        return time.monotonic() + self._known.ends_at - time.time()

    def wake(self, now_s: float) -> float | None:
        """Ask after silence, and give up without an answer; any frame is one. A session that ends
        ends the connection too.
        """
        if self._session is None:
            self._outbox.close(ChatError("no_hello", f"no hello within {HELLO_WITHIN_S:.0f} s"))
            return None
        if self._ends_at <= now_s:
            self._outbox.close(
                ChatError("token_expired", "the session has ended; connect with a new token")
            )
            return None
        if self._asked_at is not None and self._heard_at < self._asked_at:
            if now_s - self._asked_at >= PONG_WITHIN_S:
                self._outbox.close(ChatError("no_pong", "no answer to ping; reconnect"))
                return None
        elif now_s - self._heard_at >= self._silence_s:
            self._outbox.put(_PING)
            self._asked_at = now_s
            self._silence_s = HEARTBEAT_S
        else:
            return min(self._heard_at + self._silence_s, self._ends_at)
        return min(self._asked_at + PONG_WITHIN_S, self._ends_at)

    def _write(self, event: ServerEvent) -> None:
        self._outbox.put(frame_of(event))

    def _refuse(self, error: ChatError, *, re: str | None = None) -> None:
        self._state["metrics"].error_told(error.code)
        self._write(error_event(error, re=re))


class UnreadableFrame(BadFrame):
    """A frame after which the connection is closed."""
