"""What clients ask for beside saying something: to end a reply, or to have what they miss of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from chat_server.authentication import Identity
from chat_server.errors import ChatError, told_of_reading
from chat_server.events import Ok, RunDelta
from chat_server.finish import done_again
from chat_server.protocol import Attach, Stop
from chat_server.runs import Run
from chat_server.state import State
from chat_server.turn import Answer
from memory.errors import MemoryFault
from memory.live.broker import LiveRun
from memory.messages import Message, MessageId, RunId, is_reply_id

PIECE_CHARS: Final = 8_192
"""So many code points of a replayed text go into one frame: below 64 KiB whatever they are."""


class Commands:
    """Carries out what one user asks for; what was *passed_on* by another process is not asked of
    it again.
    """

    def __init__(self, state: State, identity: Identity, *, passed_on: bool = False) -> None:
        self._state = state
        self._identity = identity
        self._passed_on = passed_on
        self._user = identity.user

    async def stop(self, stop: Stop, answer: Answer) -> None:
        """End a run, for whoever asked for it; one that is over already is no error.

        Raises:
            ChatError: there is no such run, or it is not known.
        """
        run = self._state["runs"].find(self._user, stop.run)
        if run is not None:
            run.end("stopped")
            answer(Ok(re=stop.id))
            return
        elsewhere = await self._elsewhere(stop.run)
        if elsewhere is not None:
            holder = elsewhere.facts.node
            await self._state["switchboard"].pass_on(holder, stop, self._identity, answer)
            return
        if await self._ended(stop.run) is None:
            await self._ask_others(stop, answer)
            return
        answer(Ok(re=stop.id))

    async def attach(self, attach: Attach, answer: Answer) -> None:
        """Answer with what follows ``offset`` of a reply: as deltas, or as its end.

        Nothing is awaited between the position that is read and the last event of the answer: what
        is said of the reply afterwards follows it on the same connection.

        Raises:
            ChatError: there is no such run, or it is not known.
        """
        run = self._state["runs"].find(self._user, attach.run)
        if run is not None and run.question_stored.is_set():
            answer(Ok(re=attach.id))
            self._replay(run, attach.offset, answer)
            if run.done is not None:  # told already; its last affairs are being settled
                answer(run.done)
            return
        elsewhere = await self._elsewhere(attach.run)
        if elsewhere is not None:
            await self._attach_elsewhere(elsewhere, attach, answer)
            return
        ended = await self._ended(attach.run)
        if ended is None:
            await self._ask_others(attach, answer)
            return
        answer(Ok(re=attach.id))
        reply, stored = ended
        answer(done_again(reply, stored=stored, kept=not stored))

    async def _attach_elsewhere(self, live: LiveRun, attach: Attach, answer: Answer) -> None:
        """Answer with what the process says that makes the reply; when it says nothing, with what
        is kept of the text: if it died, the end follows soon.
        """
        switchboard = self._state["switchboard"]
        try:
            await switchboard.pass_on(live.facts.node, attach, self._identity, answer)
        except ChatError as error:
            if error.code != "not_ready":
                raise
            answer(Ok(re=attach.id))
            for delta in _deltas(live.facts.run, live.text, attach.offset):
                answer(delta)

    async def _elsewhere(self, run: str) -> LiveRun | None:
        """The reply *run*, if another process makes it."""
        if not is_reply_id(run):
            return None
        live = await self._state["switchboard"].elsewhere(self._user)
        return next((it for it in live or () if it.facts.run == run), None)

    async def _ask_others(self, command: Stop | Attach, answer: Answer) -> None:
        """Have another process do what is asked of a run that is neither here nor stored: it may
        have begun it just now.

        Raises:
            ChatError: none has it; ``not_ready``: one does not answer, or nobody can say.
        """
        switchboard = self._state["switchboard"]
        for node in () if self._passed_on else switchboard.others:
            try:
                await switchboard.pass_on(node, command, self._identity, answer)
            except ChatError as error:
                if error.code != "unknown_run":
                    raise
            else:
                return
        if await switchboard.elsewhere(self._user) is None:
            raise ChatError(
                "not_ready", "it is not known just now who makes this reply", retry_after_ms=500
            )
        raise ChatError("unknown_run", "no such run", field="run")

    def _replay(self, run: Run, offset: int, answer: Answer) -> None:
        if run.memories is not None:
            answer(run.memories)
        for delta in _deltas(run.id, run.text, offset):
            answer(delta)

    async def _ended(self, run: str) -> tuple[Message, bool] | None:
        """The reply *run* that has ended, and whether it is stored; the store is not asked for what
        it cannot have. What stands there holds: another process may have ended what waits here.
        """
        if not is_reply_id(run):
            return None
        waiting = self._state["late"].waiting(self._user, MessageId(run))
        try:
            found = await self._state["memory"].long_term.by_ids(self._user, [MessageId(run)])
        except MemoryFault as fault:
            if waiting is not None:
                return waiting, False
            raise told_of_reading(fault) from fault
        if found:
            return found[0], True
        return (waiting, False) if waiting is not None else None


def _deltas(run: RunId, text: str, offset: int) -> Iterator[RunDelta]:
    """*text* from *offset* on, in pieces."""
    for begin in range(offset, len(text), PIECE_CHARS):
        yield RunDelta(run=run, offset=begin, text=text[begin : begin + PIECE_CHARS])
