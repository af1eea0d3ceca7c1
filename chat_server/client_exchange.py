"""Takes what the connection hears to the state, and from there to whoever asked."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

import anyio
import structlog

from chat_server.client_connection import Connection
from chat_server.client_errors import (
    ClientError,
    NoAnswer,
    OutboxFailed,
    ServerError,
    TooMuchWaiting,
)
from chat_server.client_events import (
    Accepted,
    ConnectionLost,
    Event,
    Ok,
    Refused,
    RunDelta,
    RunDone,
    RunMemories,
    RunStarted,
    Unknown,
    Welcome,
)
from chat_server.client_outbox import MAX_KEPT, Outbox
from chat_server.client_reply import Command, Reply
from chat_server.client_runs import Frame
from chat_server.client_state import ClientState
from chat_server.client_token import Token

log = structlog.get_logger(__name__)

MAX_UNANSWERED: Final = 16
"""What the server takes of one connection at once."""
MAX_FROM_OUTBOX: Final = 12
"""Of these, what comes from the outbox: there is always room for a stop."""
FIRST_REPEAT_S: Final = 0.5
LONGEST_REPEAT_S: Final = 8.0

Observer = Callable[[Event | ConnectionLost], None]
"""Hears what happens; must not block."""


class Exchange:
    """Everything that is between what a program asks for and the connection."""

    def __init__(
        self, url: str, token: Token, observer: Observer, outbox: Outbox | None = None
    ) -> None:
        self.state = ClientState()
        self.connection = Connection(url, token, self)
        self.failure: ClientError | None = None
        """Why nothing more will be heard."""
        self._observer = observer
        self._outbox = outbox
        self._waiting: dict[str, Command] = {}
        self._replies: dict[str, Reply] = {}
        self._order = count()
        self._held: deque[Command] = deque()
        """Written down, and not sent yet."""
        self._not_before = 0.0
        self._behind = anyio.Event()

    async def run(self) -> None:
        """Converse until cancelled, or until the server ends it for good; that reaches whoever
        waits for an answer.
        """
        try:
            await self.connection.run()
        except ClientError as failure:
            log.warning("connection.refused", code=getattr(failure, "code", None))
            self.end(failure)
            reason = failure.message if isinstance(failure, ServerError) else str(failure)
            self._observer(ConnectionLost(reason=reason, retry_in_s=None))

    def ask(self, command: Command) -> None:
        """Send *command* now, or as soon as there is a connection; with an outbox, once it is
        written down.

        Raises:
            TooMuchWaiting: ``MAX_UNANSWERED`` commands wait already, ``MAX_KEPT`` with an outbox.
            ClientError: the conversation is over.
        """
        if self.failure is not None:
            raise self.failure
        outbox = self._outbox if command.reply is not None else None
        waiting = len(self._waiting) if outbox else len(self.state.unanswered)
        most = MAX_KEPT if outbox else MAX_UNANSWERED
        if waiting >= most:
            raise TooMuchWaiting(f"{most} messages wait to be accepted")
        self._enter(command)
        if outbox is not None:
            outbox.keep(command.asked.frame, lambda failure: self._written(command, failure))
        else:
            self.state.ask(command.asked)
            self._flush()

    async def carry_out(self, command: Command, within_s: float) -> None:
        """Send *command*, and wait until it is carried out.

        Raises:
            ServerError: it was refused.
            NoAnswer: nothing was heard within *within_s*.
        """
        self.ask(command)
        try:
            with anyio.move_on_after(within_s):
                await command.answered.wait()
        finally:
            self._waiting.pop(command.asked.id, None)
            self.state.forget(command.asked.id)
        if command.failure is not None:
            raise command.failure
        if not command.answered.is_set():
            raise NoAnswer(f"no answer within {within_s:.0f} s")

    def recover(self, command: Command) -> None:
        """Send what was written down before, by another process."""
        self._enter(command)
        self._written(command, None)

    def _enter(self, command: Command) -> None:
        command.order = next(self._order)
        self._waiting[command.asked.id] = command

    def reply_to(self, id_: str) -> Reply | None:
        """The reply to the message *id_*, while it is being waited for or made."""
        command = self._waiting.get(id_)
        if command is not None:
            return command.reply
        return next((reply for reply in self._replies.values() if reply.id == id_), None)

    def end(self, failure: ClientError) -> None:
        """Nothing more will be heard: whoever waits is told."""
        self.failure = failure
        for command in self._waiting.values():
            command.fail(failure)
        for reply in self._replies.values():
            reply.fail(failure)
        self._waiting.clear()
        self._replies.clear()

    # What the connection tells.

    @property
    def leaving(self) -> bool:
        return self.state.leaving

    def hello(self) -> Frame:
        return self.state.hello()

    def connected(self, welcome: Welcome) -> None:
        if self._outbox is not None and not self._outbox.belongs_to(welcome.user):
            self.end(OutboxFailed("what waits in the outbox was said by another user"))
            return
        self.state.take(welcome)
        self._observer(welcome)
        self._feed()

    def disconnected(self, reason: str, retry_in_s: float) -> None:
        self.state.lost()
        self._observer(ConnectionLost(reason=reason, retry_in_s=retry_in_s))

    def received(self, event: Event) -> None:
        if not self.state.take(event):
            return
        if not isinstance(event, Unknown):
            self._observer(event)
        match event:
            case Accepted():
                self._accept(event)
            case Ok():
                self._answer(event.re)
            case Refused(re=str(), run=None):
                self._refuse(event)
            case RunStarted() | RunMemories() | RunDelta() | RunDone():
                self._follow(event.run)
            case _:
                pass
        self._feed()

    def _accept(self, accepted: Accepted) -> None:
        command = self._waiting.get(accepted.re)
        self._answer(accepted.re)
        if command is not None and command.reply is not None:
            command.reply.accept(accepted, self.state.runs[accepted.run])
            self._replies[accepted.run] = command.reply
            self._follow(accepted.run)

    def _answer(self, id_: str) -> None:
        command = self._waiting.pop(id_, None)
        if command is None:
            return
        command.answered.set()
        if self._outbox is not None and command.reply is not None:
            self._outbox.settle(id_)

    def _refuse(self, refused: Refused) -> None:
        failure = ServerError(
            refused.code,
            refused.message,
            retryable=refused.retryable,
            retry_after_ms=refused.retry_after_ms,
            field=refused.field,
        )
        command = self._waiting.get(refused.re or "")
        if command is not None and self._outbox and command.reply and refused.retryable:
            self._held.append(command)
            self._pause((refused.retry_after_ms or 0) / 1000)
        elif command is not None:
            command.fail(failure)
            self._answer(command.asked.id)
        self._give_up(refused.re, failure)

    def _give_up(self, re: str | None, failure: ServerError) -> None:
        """Tell whoever waits for a reply that the server does not know, and will not make."""
        for run, reply in list(self._replies.items()):
            if not self.state.owns(run):
                del self._replies[run]
                lost = NoAnswer("the message is stored, but its reply cannot be found")
                reply.fail(failure if reply.id == re else lost)

    def _follow(self, run: str) -> None:
        reply = self._replies.get(run)
        if reply is None:
            return
        if self.state.runs[run].over:
            del self._replies[run]
        reply.changed()

    # What is sent, and when.

    def _written(self, command: Command, failure: OutboxFailed | None) -> None:
        if self._waiting.get(command.asked.id) is not command:
            return
        if failure is not None:
            del self._waiting[command.asked.id]
            command.fail(failure)
            return
        if command.reply is not None:
            command.reply.write_down()
        self._held.append(command)
        self._feed()

    def _pause(self, at_least_s: float) -> None:
        """Send nothing more from the outbox before some time has passed."""
        self._not_before = max(self._not_before, time.monotonic() + at_least_s)
        self._behind.set()

    def _feed(self) -> None:
        """Send what is held, as far as there is room; then whatever is to be sent."""
        while (
            self._held and self._not_before == 0.0 and len(self.state.unanswered) < MAX_FROM_OUTBOX
        ):
            command = self._held.popleft()
            if self._waiting.get(command.asked.id) is command:
                self.state.ask(command.asked)
        self._flush()

    def _flush(self) -> None:
        while self.state.outgoing and self.connection.has_room:
            self.connection.post(self.state.outgoing.pop(0))
        if self.state.waits:
            self._behind.set()

    async def repeat(self) -> None:
        """Ask again for what could not be answered, with growing pauses, until cancelled."""
        pause_s, last = FIRST_REPEAT_S, 0.0
        while True:
            await self._behind.wait()
            self._behind = anyio.Event()
            if time.monotonic() - last > 2 * LONGEST_REPEAT_S:
                pause_s = FIRST_REPEAT_S
            await anyio.sleep(max(pause_s, self._not_before - time.monotonic()))
            pause_s, last = min(2 * pause_s, LONGEST_REPEAT_S), time.monotonic()
            if self._not_before:
                self._not_before = 0.0
                self._held = deque(sorted(self._held, key=lambda held: held.order))
            self.state.later()
            self._feed()

    def say_token(self, token: str) -> None:
        """Tell the server who this is from now on. The answer is not waited for: the next
        connection says the same.
        """
        if self.connection.online:
            self.connection.post({"type": "auth", "id": f"auth-{time.time_ns()}", "token": token})
