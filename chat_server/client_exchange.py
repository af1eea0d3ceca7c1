"""What a client has asked and not been told yet: repeated when reconnected, read over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
import structlog

from chat_server.client_connection import Connection
from chat_server.client_errors import (
    ClientError,
    NoAnswer,
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
    Welcome,
)
from chat_server.client_http import HttpApi, MessagePage
from chat_server.client_reply import Reply

log = structlog.get_logger(__name__)

MAX_UNANSWERED: Final = 16
"""What the server takes of one connection at once."""
MAX_REPEATS: Final = 3
"""How often a message is repeated because neither its reply nor its run can be found."""
CATCH_UP_PAUSE_S: Final = 0.2
AFTER_FAILURE_S: Final = 1.0
PAGE: Final = 200


Observer = Callable[[Event | ConnectionLost], None]
"""Hears what happens; must not block."""


class Command:
    """A frame that wants an answer; ``reply`` is there for a message."""

    def __init__(self, frame: dict[str, object], reply: Reply | None = None) -> None:
        self.frame = frame
        self.reply = reply
        self.posted = False
        self.failure: ClientError | None = None
        self.answered = anyio.Event()

    def fail(self, failure: ClientError) -> None:
        """It was refused, or will not be answered."""
        self.failure = failure
        self.answered.set()
        if self.reply is not None:
            self.reply.fail(failure)


class Exchange:
    """Takes what the connection hears to the replies and commands that it is about."""

    def __init__(self, url: str, token: str, http: HttpApi, observer: Observer) -> None:
        self.connection = Connection(url, token, self)
        self.failure: ClientError | None = None
        """Why nothing more will be heard."""
        self._observer = observer
        self._http = http
        self._unanswered: dict[str, Command] = {}
        self._replies: dict[str, Reply] = {}
        self._behind = anyio.Event()

    async def run(self) -> None:
        """Converse until cancelled, or until the server ends it for good; that reaches whoever
        waits for an answer.
        """
        try:
            await self.connection.run()
        except ServerError as failure:
            log.warning("connection.refused", code=failure.code)
            self.end(failure)
            self._observer(ConnectionLost(reason=failure.message, retry_in_s=None))

    def ask(self, id_: str, command: Command) -> None:
        """Post *command* now, or as soon as there is a connection.

        Raises:
            TooMuchWaiting: ``MAX_UNANSWERED`` commands wait already.
            ServerError: the server ended the conversation.
        """
        if self.failure is not None:
            raise self.failure
        if len(self._unanswered) >= MAX_UNANSWERED:
            raise TooMuchWaiting(f"{MAX_UNANSWERED} messages wait to be accepted")
        self._unanswered[id_] = command
        if self.connection.online:
            self._post(command)

    def forget(self, id_: str) -> None:
        """Nobody waits for the answer to this command any more."""
        self._unanswered.pop(id_, None)

    def reply_to(self, id_: str) -> Reply | None:
        """The reply to the message *id_*, while it is being waited for or made."""
        command = self._unanswered.get(id_)
        if command is not None:
            return command.reply
        return next((reply for reply in self._replies.values() if reply.id == id_), None)

    def end(self, failure: ClientError) -> None:
        """Nothing more will be heard: whoever waits is told."""
        self.failure = failure
        for command in self._unanswered.values():
            command.fail(failure)
        for reply in self._replies.values():
            reply.fail(failure)
        self._unanswered.clear()
        self._replies.clear()

    # What the connection tells.

    def connected(self, welcome: Welcome) -> None:
        for command in self._unanswered.values():
            self._post(command)
        for reply in self._replies.values():
            reply.behind = True
        self._behind.set()
        self._observer(welcome)

    def disconnected(self, reason: str, retry_in_s: float) -> None:
        self._observer(ConnectionLost(reason=reason, retry_in_s=retry_in_s))

    def received(self, event: Event) -> None:
        self._observer(event)
        match event:
            case Accepted():
                self._accept(event)
            case Ok():
                self._answer(event.re, None)
            case Refused(re=str(), run=None):
                failure = ServerError(
                    event.code,
                    event.message,
                    retryable=event.retryable,
                    retry_after_ms=event.retry_after_ms,
                    field=event.field,
                )
                self._answer(event.re, failure)
            case RunStarted() | RunMemories() | RunDelta() | RunDone():
                reply = self._replies.get(event.run)
                if reply is not None:
                    self._tell(reply, event)
            case _:
                pass

    def _post(self, command: Command) -> None:
        again = {"retry": True} if command.posted and command.reply is not None else {}
        command.posted = True
        self.connection.post(command.frame | again)

    def _answer(self, id_: str | None, failure: ServerError | None) -> None:
        command = self._unanswered.pop(id_, None) if id_ is not None else None
        if command is None:
            return
        if failure is not None:
            command.fail(failure)
        command.answered.set()

    def _accept(self, accepted: Accepted) -> None:
        command = self._unanswered.pop(accepted.re, None)
        if command is None or command.reply is None:
            return
        command.answered.set()
        reply = command.reply
        self._replies[accepted.run] = reply
        reply.accept(accepted)
        if accepted.duplicate:  # its reply may be over, or half said
            reply.behind = True
            self._behind.set()

    def _tell(self, reply: Reply, event: RunStarted | RunMemories | RunDelta | RunDone) -> None:
        match event:
            case RunStarted():
                reply.begin(event.model)
            case RunMemories():
                reply.remember(event.items)
            case RunDelta():
                reply.add(event)
                if reply.behind:
                    self._behind.set()
            case RunDone():
                del self._replies[event.run]
                reply.finish(event)

    # What was missed.

    async def catch_up(self) -> None:
        """Read over HTTP whatever is behind, until cancelled."""
        while True:
            await self._behind.wait()
            self._behind = anyio.Event()
            pause_s = CATCH_UP_PAUSE_S
            for reply in [reply for reply in self._replies.values() if reply.behind]:
                try:
                    await self._read(reply)
                except ClientError as failure:
                    log.info("reply.not_read_yet", reason=str(failure))
                    pause_s = AFTER_FAILURE_S
            await anyio.sleep(pause_s)
            # Without a connection nothing is asked: the next one begins with catching up.
            if self.connection.online and any(reply.behind for reply in self._replies.values()):
                self._behind.set()

    async def _read(self, reply: Reply) -> None:
        accepted = reply.acceptance
        if accepted is None:
            return
        before = None
        while not reply.over:
            page = await self._page(accepted.conversation, before)
            for live in page.runs:
                if live.run == accepted.run:
                    reply.catch_up(live.text)
                    return
            for message in page.messages:
                if message.id == accepted.run and not reply.over:
                    self._replies.pop(accepted.run, None)
                    reply.found(message, accepted.conversation)
                    return
            asked = any(message.id == accepted.message for message in page.messages)
            if asked or page.before is None:
                break
            before = page.before
        if not reply.over:
            self._repeat(reply, accepted)

    async def _page(self, conversation: str, before: str | None) -> MessagePage:
        try:
            return await self._http.messages(conversation, limit=PAGE, before=before)
        except ServerError as refusal:
            if refusal.code == "unknown_conversation":
                return MessagePage([])
            raise

    def _repeat(self, reply: Reply, accepted: Accepted) -> None:
        """The server was killed before the reply was stored: the same message makes it anew."""
        if reply.repeats >= MAX_REPEATS:
            self._replies.pop(accepted.run, None)
            reply.fail(NoAnswer("the message is stored, but its reply cannot be found"))
            return
        command = Command(reply.sent, reply)
        command.posted = True
        self.ask(reply.id, command)
        self._replies.pop(accepted.run, None)
        reply.repeats += 1
        reply.behind = False
        log.info("reply.asked_again", run=accepted.run)
