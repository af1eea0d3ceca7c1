"""A client of a Tandem server for programs: bots, bridges, tests.

::

    async with await Client.guest("http://127.0.0.1:8000") as client:
        reply = client.send("My dog is called Biscuit.")
        async for piece in reply:
            print(piece, end="", flush=True)

Errors are :class:`ClientError` and its kinds. See docs/client.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, Unpack

import anyio
from anyio import create_task_group, get_cancelled_exc_class

from chat_server.client_errors import (
    ClientError,
    NoAnswer,
    OutboxFailed,
    ServerError,
    TooMuchWaiting,
    Unreachable,
)
from chat_server.client_events import Accepted, ConnectionLost, Event, Limits, Reset, Welcome
from chat_server.client_exchange import Exchange, Observer
from chat_server.client_http import HttpApi
from chat_server.client_outbox import Outbox
from chat_server.client_reply import Command, Reply, Result
from chat_server.client_runs import Asked, Frame
from chat_server.client_said import SendFields, new_id, send_frame
from chat_server.client_token import Renew, Token
from chat_server.client_values import Allowance, Conversation, Memory, Message

__all__ = [
    "Accepted",
    "Allowance",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Conversation",
    "Event",
    "Memory",
    "Message",
    "NoAnswer",
    "OutboxFailed",
    "Reply",
    "Reset",
    "Result",
    "ServerError",
    "TooMuchWaiting",
    "Unreachable",
    "Welcome",
    "new_id",
]

CONNECT_WITHIN_S: Final = 10.0
ANSWER_WITHIN_S: Final = 30.0


class Client:
    """One user's connection, kept up until the ``async with`` block ends.

    A lost connection is opened again after 0.2 to 10 s, and resumed: messages without an answer
    are repeated under their ids, and replies go on where they were. Use the client from the event
    loop that entered it.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        on_event: Observer | None = None,
        renew: Renew | None = None,
        outbox: Path | None = None,
    ) -> None:
        """Prepare a connection to the server at *url* as the holder of *token*.

        *on_event* hears every event of the user (also of other connections), ``Welcome`` and
        ``ConnectionLost``; it must not block. *renew* gives the next token before this one ends,
        or when the server does not take it any more. *outbox* is a file: what is said is written
        there first, and sent until it is accepted, also by the next process that opens it.

        Raises:
            ValueError: *url* is not an http or https address.
        """
        self.url = url.rstrip("/")
        self.user = ""
        """Who this is; known once connected."""
        self.limits: Allowance | None = None
        """What is left of the user's limit."""
        self.recovered: list[Reply] = []
        """The replies to what an earlier process had left in the outbox, in order."""
        self._on_event = on_event
        self._token = Token(token, renew)
        self._http = HttpApi(self.url, self._token)
        self._outbox = Outbox(outbox) if outbox is not None else None
        self._exchange = Exchange(self.url, self._token, self._heard, self._outbox)
        self._welcomed = anyio.Event()
        self._trouble = ""

    @classmethod
    async def guest(
        cls, url: str, *, on_event: Observer | None = None, outbox: Path | None = None
    ) -> Self:
        """A client for somebody new. Keep its ``token``: it is who you are.

        Raises:
            ServerError: guests are not welcome there.
            Unreachable: there is no server.
        """
        async with HttpApi(url.rstrip("/"), None) as http:
            session = await http.session()
        return cls(url, token=session.token, on_event=on_event, outbox=outbox)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ServerError: the token is not valid, or the server refuses for another reason.
            Unreachable: no connection within ``CONNECT_WITHIN_S``.
            OutboxFailed: the outbox cannot be used, or holds what another user said.
        """
        if self._outbox is not None:
            self._recover(await self._outbox.open())
        await self._http.__aenter__()
        self._tasks = await create_task_group().__aenter__()
        if self._outbox is not None:
            self._tasks.start_soon(self._outbox.run)
        self._tasks.start_soon(self._exchange.run)
        self._tasks.start_soon(self._exchange.repeat)
        self._tasks.start_soon(self._token.keep, self._exchange.say_token)
        try:
            with anyio.move_on_after(CONNECT_WITHIN_S):
                await self._welcomed.wait()
            if self._exchange.failure is not None:
                raise self._exchange.failure
            if not self._welcomed.is_set():
                raise Unreachable(f"{self.url}: {self._trouble or 'no answer'}")
        except BaseException as failure:
            await self.__aexit__(type(failure), failure, failure.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Close; who still waits for a reply is told. Replies are made to their end all the same,
        and stand in the history.
        """
        self._exchange.end(Unreachable("the client was closed"))
        self._tasks.cancel_scope.cancel()
        # The group sees only a cancellation, which may be its own: what else the block raised
        # leaves it as it is, and not in a group of exceptions.
        try:
            if isinstance(error, get_cancelled_exc_class()):
                return await self._tasks.__aexit__(kind, error, trace)
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._http.__aexit__(None, None, None)
            if self._outbox is not None:
                await self._outbox.close()
        return None

    def _recover(self, frames: list[Frame]) -> None:
        self.recovered.clear()
        for frame in frames:
            asked = Asked(frame, posted=True)
            reply = Reply(asked.id, self)
            self.recovered.append(reply)
            self._exchange.recover(Command(asked, reply))

    @property
    def token(self) -> str:
        """Who this is: whoever has it is this user."""
        return self._token.value

    @property
    def mismatches(self) -> int:
        """How many replies did not fit the digest that the server sent with them."""
        return self._exchange.state.mismatches

    @property
    def online(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._exchange.connection.online

    def send(self, text: str, **fields: Unpack[SendFields]) -> Reply:
        """Say *text*, now or as soon as there is a connection again.

        ``conversation``: where; your own :func:`new_id` opens one, without it the server opens
        one. ``parent``: the message that this one follows, instead of the last. ``author``: who
        speaks, where several do. ``memory=False``: answer without memories of other
        conversations. ``id``: that of an earlier attempt, to repeat it.

        Raises:
            TooMuchWaiting: 16 messages wait to be accepted.
            ServerError: the server has ended the conversation for good.
        """
        return self._ask(send_frame(text, fields), again=fields.get("id") is not None)

    def regenerate(self, message: str, *, id: str | None = None) -> Reply:  # noqa: A002
        """Have another reply made beside the one that is there; *message* is that reply, or what
        it answers. With the *id* of an earlier attempt it is the same reply for ever.

        Raises: as :meth:`send`.
        """
        frame: Frame = {"type": "regenerate", "id": id or new_id(), "message": message}
        return self._ask(frame, again=id is not None)

    def edit(self, message: str, text: str, *, id: str | None = None) -> Reply:  # noqa: A002
        """Say *text* in the place of *message*, beside it: a branch begins there.

        Raises: as :meth:`send`.
        """
        frame: Frame = {"type": "edit", "id": id or new_id(), "message": message, "text": text}
        return self._ask(frame, again=id is not None)

    def _ask(self, frame: Frame, *, again: bool) -> Reply:
        id_ = str(frame["id"])
        known = self._exchange.reply_to(id_) if again else None
        if known is not None:
            return known
        reply = Reply(id_, self)
        self._exchange.ask(Command(Asked(frame, posted=again), reply))
        return reply

    def draft(self, text: str, *, conversation: str | None = None) -> None:
        """Say what is being typed, so that the reply to it can be prepared; at most four times a
        second is heard. Nothing is stored or answered; without a connection nothing is done.
        """
        frame: Frame = {"type": "draft", "text": text}
        if conversation is not None:
            frame["conversation"] = conversation
        if self.online:
            self._exchange.connection.post(frame)

    async def stop(self, run: str) -> None:
        """End the reply *run* of this user, whoever asked for it; what it said is kept. No error
        if it has ended already.

        Raises:
            ServerError: there is no such reply.
            NoAnswer: nothing was heard within ``ANSWER_WITHIN_S``.
        """
        frame: Frame = {"type": "stop", "id": new_id(), "run": run}
        await self._exchange.carry_out(Command(Asked(frame)), ANSWER_WITHIN_S)

    async def conversations(self, *, page: int = 50) -> AsyncGenerator[Conversation]:
        """All conversations, last updated first; asks for *page* of them at a time."""
        before: str | None = None
        while True:
            found = await self._http.conversations(limit=page, before=before)
            for conversation in found.conversations:
                yield conversation
            before = found.before
            if before is None:
                return

    async def history(self, conversation: str, *, page: int = 50) -> AsyncGenerator[Message]:
        """The messages of *conversation*, newest first; asks for *page* of them at a time."""
        before: str | None = None
        while True:
            found = await self._http.messages(conversation, limit=page, before=before)
            for message in reversed(found.messages):
                yield message
            before = found.before
            if before is None:
                return

    async def search(self, query: str, *, limit: int = 10) -> list[Memory]:
        """What is remembered that fits *query* best, over all conversations."""
        return (await self._http.search(query, limit=limit)).items

    def _heard(self, event: Event | ConnectionLost) -> None:
        match event:
            case Welcome():
                self.user = event.user
                self.limits = event.limits.user if event.limits else None
                self._welcomed.set()
            case Limits():
                self.limits = event.user
            case ConnectionLost():
                self._trouble = event.reason
                if event.retry_in_s is None:
                    self._welcomed.set()
            case _:
                pass
        if self._on_event is not None:
            self._on_event(event)
