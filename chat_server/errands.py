"""What one connection has asked for and waits for: messages in order, drafts, stop and attach."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, Protocol, assert_never

from anyio.abc import TaskGroup

from chat_server.authentication import Identity
from chat_server.commands import Commands
from chat_server.errors import ChatError
from chat_server.events import ServerEvent
from chat_server.protocol import Attach, Draft, Edit, Regenerate, RunPoint, Send, Stop
from chat_server.speculation import Speculation
from chat_server.state import State

SENDS_WAITING: Final = 16
"""Messages of one connection that may wait for the ones before them."""

Said = Send | Edit | Regenerate
"""What is handled in order, for each follows what was said before it."""
Command = Said | Stop | Attach | Draft
"""What needs tasks, or waits."""


class Refuse(Protocol):
    """Tells the client why something was not done."""

    def __call__(self, error: ChatError, *, re: str | None = None) -> None: ...


class Errands:
    """Carries out the commands of one connection; its tasks belong to *tasks*, and each begins
    when there is something to do.

    *answer* and *refuse* tell the client.
    """

    def __init__(
        self,
        state: State,
        identity: Identity,
        tasks: TaskGroup,
        answer: Callable[[ServerEvent], None],
        refuse: Refuse,
    ) -> None:
        self._state = state
        self.identity = identity
        """Who speaks; may be renewed."""
        self._tasks = tasks
        self._answer = answer
        self._refuse = refuse
        self._commands = Commands(state, identity)
        self._drafts: Speculation | None = None
        self._said: deque[Said] = deque()
        self._saying = False

    async def carry_out(self, command: Command) -> bool:
        """Do what is asked at once, or in order; whether it worked is told. ``False``: there were
        too many of its kind.
        """
        match command:
            case Send() | Regenerate() | Edit():
                self._queue(command)
            case Draft():
                return self._draft(command)
            case Stop():
                await self._told(command, self._commands.stop(command, self._answer))
            case Attach():
                await self._told(command, self._commands.attach(command, self._answer))
            case _:
                assert_never(command)
        return True

    def attach_all(self, points: Sequence[RunPoint]) -> None:
        """Go on with the replies that a client who comes back had not seen the end of."""
        if points:
            self._tasks.start_soon(self._attach_all, points)

    async def _attach_all(self, points: Sequence[RunPoint]) -> None:
        for point in points:
            attach = Attach(id=f"attach-{point.run}"[:64], run=point.run, offset=point.offset)
            await self.carry_out(attach)

    async def _told(self, command: Stop | Attach, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except ChatError as error:
            self._refuse(error, re=command.id)

    def _draft(self, draft: Draft) -> bool:
        if self._drafts is None:
            turns = self._state["turns"]
            self._drafts = Speculation(
                self._state["metrics"].speculation,
                max_text_bytes=self._state["settings"].server.max_text_bytes,
            )
            self._tasks.start_soon(self._drafts.run, turns.preparation, self.identity.user)
        return self._drafts.typed(draft.text)

    def _queue(self, said: Said) -> None:
        if len(self._said) >= SENDS_WAITING:
            error = ChatError("busy", "too many messages at once; wait for `accepted`")
            self._refuse(error, re=said.id)
            return
        self._said.append(said)
        if not self._saying:
            self._saying = True
            self._tasks.start_soon(self._say_all)

    async def _say_all(self) -> None:
        try:
            while self._said:
                said = self._said.popleft()
                try:
                    self._refuse_while_draining()
                    await self._say(said)
                except ChatError as error:
                    self._refuse(error, re=said.id)
        finally:
            self._saying = False

    async def _say(self, said: Said) -> None:
        drafted = None
        if self._drafts is not None and not isinstance(said, Regenerate):
            drafted = self._drafts.take(said.text)
        await self._state["switchboard"].take(said, self.identity, self._answer, drafted)

    def _refuse_while_draining(self) -> None:
        if self._state["connections"].draining:
            raise ChatError("shutting_down", "the server restarts; reconnect and send it again")
