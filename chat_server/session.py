"""One connection from ``hello`` to its close: reads frames, writes events, keeps in touch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Final, assert_never

import anyio
import structlog
from anyio import create_task_group
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.websockets import WebSocket, WebSocketDisconnect

from chat_server.authentication import Identity, cookie_token
from chat_server.commands import Commands
from chat_server.errors import ERRORS, ChatError
from chat_server.events import (
    LimitsState,
    ServerEvent,
    ServerPing,
    ServerPong,
    Welcome,
    error_event,
)
from chat_server.fanout import Joined
from chat_server.frames import frame_of
from chat_server.outbox import Outbox
from chat_server.protocol import (
    HEARTBEAT_S,
    HELLO_WITHIN_S,
    VERSION,
    AnyClientFrame,
    Attach,
    Auth,
    BadFrame,
    Draft,
    Edit,
    Hello,
    Ping,
    Pong,
    Regenerate,
    RunPoint,
    Send,
    Stop,
    parse_frame,
)
from chat_server.speculation import Speculation
from chat_server.state import State

log = structlog.get_logger(__name__)

PONG_WITHIN_S: Final = 10.0
SENDS_WAITING: Final = 16
"""Messages of one connection that may wait for the ones before them."""
WRITE_WITHIN_S: Final = 60.0
"""A frame that cannot be written for so long means that nobody reads; usually the outbox is full
long before."""
CLOSE_WITHIN_S: Final = 2.0

Said = Send | Edit | Regenerate
"""What is handled in order, for each follows what was said before it."""


class ChatSession:
    """Serves one accepted WebSocket; leaves no task behind.

    Messages of one connection are handled in order; everything else at once. What was accepted
    goes on when the connection ends.
    """

    def __init__(self, socket: WebSocket, state: State) -> None:
        self._socket = socket
        self._state = state
        self._outbox = Outbox()
        self._drafts = Speculation(
            state["metrics"].speculation,
            max_text_bytes=state["settings"].server.max_text_bytes,
        )
        self._heard_at = time.monotonic()
        self._id = token_hex(8)

    async def run(self) -> None:
        """Serve until either side ends it, then close with the code that says why."""
        with self._state["connections"].opened(self._outbox):
            try:
                hello, identity = await self._greet()
                await self._serve(hello, identity)
            except WebSocketDisconnect:
                return
            except ChatError as reason:
                await self._close(reason)

    async def _greet(self) -> tuple[Hello, Identity]:
        """Read ``hello``.

        Raises:
            ChatError: the connection cannot be used; it carries the close code.
        """
        self._refuse_while_draining()
        hello = None
        with anyio.move_on_after(HELLO_WITHIN_S):
            hello = await self._receive()
        if hello is None:
            raise ChatError("no_hello", f"no hello within {HELLO_WITHIN_S:.0f} s")
        if not isinstance(hello, Hello):
            raise BadFrame("the first frame must be a hello", field="type")
        if hello.v != VERSION:
            raise ChatError(
                "unsupported_version", f"this server speaks version {VERSION}", field="v"
            )
        token = hello.token or cookie_token(self._socket.headers)
        if token is None:
            raise ChatError(
                "not_authenticated",
                "hello needs a token; POST /api/session gives one",
                field="token",
            )
        return hello, self._state["authenticator"].identify(token)

    async def _serve(self, hello: Hello, identity: Identity) -> None:
        structlog.contextvars.bind_contextvars(connection=self._id, user=identity.user)
        log.info("connection.opened", client=hello.client)
        sends, waiting_sends = anyio.create_memory_object_stream[Said](SENDS_WAITING)
        self._state["turns"].warm(identity.user)
        preparation = self._state["turns"].preparation
        self._commands = Commands(self._state, identity.user)
        fanout = self._state["fanout"]
        async with fanout.joined(identity.user, self._outbox, hello.resume) as joined:
            self._write(self._welcome(identity, joined, self._limits(identity)))
            for frame in joined.missed:
                self._outbox.put(frame)
            with sends:
                async with create_task_group() as tasks:
                    tasks.start_soon(self._attach_all, hello.runs)
                    tasks.start_soon(self._take_sends, waiting_sends, identity)
                    tasks.start_soon(self._drafts.run, preparation, identity.user)
                    tasks.start_soon(self._keep_in_touch)
                    tasks.start_soon(self._write_frames)
                    tasks.start_soon(self._read_frames, sends)
                    reason = await self._outbox.closed()
                    with anyio.move_on_after(CLOSE_WITHIN_S):
                        await self._outbox.drained()
                    tasks.cancel_scope.cancel()
        log.info("connection.closed", code=reason.code if reason else "left")
        if reason is not None:
            raise reason

    async def _attach_all(self, points: Sequence[RunPoint]) -> None:
        """Go on with the replies that a client who comes back had not seen the end of."""
        for point in points:
            attach = Attach(id=f"attach-{point.run}"[:64], run=point.run, offset=point.offset)
            await self._carry_out(attach)

    def _limits(self, identity: Identity) -> LimitsState:
        limiter = self._state["limiter"]
        return LimitsState(
            user=limiter.user_allowance(identity.user),
            global_=limiter.global_allowance(),
        )

    def _welcome(self, identity: Identity, joined: Joined, limits: LimitsState) -> Welcome:
        return Welcome(
            v=VERSION,
            user=identity.user,
            connection=self._id,
            resumed=joined.resumed,
            epoch=joined.epoch,
            seq=joined.seq,
            heartbeat_s=HEARTBEAT_S,
            max_frame_bytes=self._state["settings"].server.max_frame_bytes,
            limits=limits,
        )

    async def _read_frames(self, sends: MemoryObjectSendStream[Said]) -> None:
        """Handle what the client sends until it leaves."""
        while True:
            try:
                frame = await self._receive()
                if frame is not None:
                    await self._handle(frame, sends)
            except WebSocketDisconnect:
                self._outbox.close(None)
                return
            except UnreadableFrame as error:
                self._outbox.close(error)
                return
            except BadFrame as error:
                self._refuse(error, re=error.re)

    async def _receive(self) -> AnyClientFrame | None:
        """The next frame; ``None`` for a type that is not known."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._heard_at = time.monotonic()
        text = message.get("text")
        if text is None:
            raise UnreadableFrame("frames are text, not binary")
        return parse_frame(text)

    async def _handle(self, frame: AnyClientFrame, sends: MemoryObjectSendStream[Said]) -> None:
        match frame:
            case Send() | Regenerate() | Edit():
                try:
                    sends.send_nowait(frame)
                except anyio.WouldBlock:
                    error = ChatError("busy", "too many messages at once; wait for `accepted`")
                    self._refuse(error, re=frame.id)
            case Stop() | Attach() | Auth():
                await self._carry_out(frame)
            case Ping():
                self._write(ServerPong())
            case Hello():
                self._refuse(BadFrame("hello was said already", field="type"))
            case Draft():
                self._drafts.typed(frame.text)
            case Pong():
                pass
            case _:
                assert_never(frame)

    async def _carry_out(self, command: Stop | Attach | Auth) -> None:
        """Do what is asked at once; whether it worked is told."""
        try:
            match command:
                case Stop():
                    await self._commands.stop(command, self._write)
                case Attach():
                    await self._commands.attach(command, self._write)
                case Auth():
                    raise ChatError("bad_request", "not yet")
                case _:
                    assert_never(command)
        except ChatError as error:
            self._refuse(error, re=command.id)

    async def _take_sends(
        self, waiting: MemoryObjectReceiveStream[Said], identity: Identity
    ) -> None:
        with waiting:
            async for said in waiting:
                try:
                    self._refuse_while_draining()
                    await self._say(said, identity)
                except ChatError as error:
                    self._refuse(error, re=said.id)

    async def _say(self, said: Said, identity: Identity) -> None:
        turns = self._state["turns"]
        match said:
            case Send():
                await turns.take(said, identity, self._write, self._drafts.take(said.text))
            case Edit() | Regenerate():
                raise ChatError("bad_request", "not yet")
            case _:
                assert_never(said)

    def _refuse_while_draining(self) -> None:
        if self._state["connections"].draining:
            raise ChatError("shutting_down", "the server restarts; reconnect and send it again")

    async def _keep_in_touch(self) -> None:
        """Ask after silence, and give up without an answer; any frame is one."""
        while True:
            silence_s = time.monotonic() - self._heard_at
            if silence_s < HEARTBEAT_S:
                await anyio.sleep(HEARTBEAT_S - silence_s)
                continue
            self._write(ServerPing())
            asked_at = time.monotonic()
            await anyio.sleep(PONG_WITHIN_S)
            if self._heard_at < asked_at:
                self._outbox.close(ChatError("no_pong", "no answer to ping; reconnect"))
                return

    async def _write_frames(self) -> None:
        while True:
            frame = await self._outbox.take()
            try:
                with anyio.fail_after(WRITE_WITHIN_S):
                    await self._socket.send_text(frame.payload.decode())
            except TimeoutError:
                self._outbox.close(ChatError("slow_client", "nothing was read; reconnect"))
                return
            except (WebSocketDisconnect, RuntimeError):
                self._outbox.close(None)  # it is closed already; which is raised depends on by whom
                return
            self._outbox.written()

    def _write(self, event: ServerEvent) -> None:
        self._outbox.put(frame_of(event))

    def _refuse(self, error: ChatError, *, re: str | None = None) -> None:
        self._state["metrics"].error_told(error.code)
        self._write(error_event(error, re=re))

    async def _close(self, reason: ChatError) -> None:
        """Say why in words, then in the close code; bounded, for a client that does not read."""
        code = ERRORS[reason.code].close or ERRORS["internal"].close
        self._state["metrics"].error_told(reason.code)
        with anyio.move_on_after(CLOSE_WITHIN_S):
            try:
                await self._socket.send_text(frame_of(error_event(reason)).payload.decode())
                await self._socket.close(code or 1011, reason.message[:120])
            except (WebSocketDisconnect, RuntimeError):
                return  # it is closed already: Starlette raises either, by who closed it


class UnreadableFrame(BadFrame):
    """A frame after which the connection is closed."""
