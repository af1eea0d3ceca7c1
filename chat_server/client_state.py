"""What a client knows, and what it must ask: frames in, state and frames out; no I/O, no clock.

A story of any connection, however often it breaks, ends in the same state as one that never did:
tests/conformance has the stories, its README the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import structlog

from chat_server.client_events import (
    Accepted,
    ConversationDeleted,
    ConversationUpdated,
    DurableEvent,
    Event,
    MessageCreated,
    MessageDeleted,
    Ok,
    Refused,
    Reset,
    RunDelta,
    RunDone,
    RunMemories,
    RunStarted,
    Welcome,
)
from chat_server.client_runs import LOST, RUNNING, Asked, Frame, RunState
from chat_server.client_told import Told, keep
from chat_server.client_values import Place

log = structlog.get_logger(__name__)

MAX_HELLO_RUNS: Final = 64
"""What ``hello`` may name; more replies are attached to one by one."""
MAX_ATTACHED: Final = 32
"""How many replies are asked for at once beside those in ``hello``."""
MAX_RUNS: Final = 256
MAX_REPEATS: Final = 6
"""How often a command is repeated because the server does not know its reply."""


class ClientState:
    """Feed it what happens; ``outgoing`` gathers what must be sent, in order.

    ``leaving``: events were lost, so that the connection must be closed and opened again.
    """

    def __init__(self) -> None:
        self.cursor: Place | None = None
        """The last lasting event that is in this state."""
        self.fresh_starts = 0
        """How often what is known had to be read over HTTP, all of it."""
        self.mismatches = 0
        """Replies whose text did not fit the digest that came with it."""
        self.online = False
        self.leaving = False
        self.told = Told()
        """Conversations and messages that were told of since the last fresh start."""
        self.runs: dict[str, RunState] = {}
        """The replies that are not over, and of the others the newest, ``MAX_RUNS`` in all."""
        self.unanswered: dict[str, Asked] = {}
        self.refused: dict[str, str] = {}
        """Commands that were refused, and the code; the newest ``MAX_RUNS``."""
        self.outgoing: list[Frame] = []
        self._own: dict[str, Asked] = {}
        self._attaching: dict[str, str] = {}
        self._again: dict[str, None] = {}

    @property
    def waits(self) -> bool:
        """Whether something is to be repeated, see :meth:`later`."""
        return self.online and bool(self._again)

    def owns(self, run: str) -> bool:
        """Whether *run* answers a command of this client, and is asked for until it ends."""
        return run in self._own

    # What the client does.

    def hello(self) -> Frame:
        """What ``hello`` says of this state; the replies it names count as asked for."""
        said: Frame = {}
        if self.cursor is not None and self.cursor.epoch:
            said["resume"] = {"epoch": self.cursor.epoch, "seq": self.cursor.seq}
        runs = list(self._running())[:MAX_HELLO_RUNS]
        if runs:
            said["runs"] = [{"run": run.id, "offset": len(run.text)} for run in runs]
        for run in runs:
            self._attaching[_attach_id(run.id)] = run.id
        return said

    def ask(self, asked: Asked) -> None:
        """Send a command, now or after the next ``welcome``, until it is answered."""
        self.unanswered[asked.id] = asked
        if self.online:
            self.outgoing.append(asked.outgoing())

    def forget(self, id_: str) -> None:
        """Nobody waits for the answer to this command any more."""
        self.unanswered.pop(id_, None)

    def lost(self) -> None:
        """The connection is gone; what was sent on it may be lost."""
        self.online = self.leaving = False
        self.outgoing.clear()
        self._attaching.clear()

    def later(self) -> None:
        """Some time has passed: ask again for what the server could not say, or did not know."""
        for id_ in list(self._again)[:MAX_ATTACHED]:
            del self._again[id_]
            run = self.runs.get(id_)
            asked = self._own.get(id_)
            if run is None or run.over:
                continue
            if run.status != LOST:
                self._attach(run)
            elif asked is not None and asked.id not in self.unanswered:
                asked.repeats += 1
                log.info("reply.asked_again", run=id_, repeats=asked.repeats)
                self.ask(asked)

    # What the server says.

    def take(self, event: Event) -> bool:
        """Bring *event* into the state; false if it is an old one, or cannot be taken yet."""
        if isinstance(event, DurableEvent) and not self._follows(event.seq):
            return False
        match event:
            case Welcome():
                self._welcome(event)
            case Reset():
                self._fresh_start(Place(event.epoch, event.seq))
                self._attach_all()
            case Accepted():
                self._accept(event)
            case Ok():
                self._attaching.pop(event.re, None)
                self.unanswered.pop(event.re, None)
            case Refused(re=str(), run=None):
                self._refuse(event)
            case RunStarted() | RunMemories() | RunDelta() | RunDone():
                self._run_told(event)
            case MessageCreated() | ConversationUpdated() | ConversationDeleted():
                self.told.take(event)
            case MessageDeleted():
                self._erase(event)
            case _:
                pass
        return True

    def _follows(self, seq: int) -> bool:
        """Whether an event in this place can be taken now; the cursor moves there."""
        if not seq or self.cursor is None or not self.cursor.epoch:
            return True
        if seq == self.cursor.seq + 1:
            self.cursor = Place(self.cursor.epoch, seq)
            return True
        if seq > self.cursor.seq:
            log.warning("event.missed", after=self.cursor.seq, came=seq)
            self.leaving = True
        return False

    def _welcome(self, welcome: Welcome) -> None:
        self.online = True
        if not welcome.resumed:
            self._fresh_start(Place(welcome.epoch, welcome.seq))
        for asked in self.unanswered.values():
            self.outgoing.append(asked.outgoing())
        self._attach_all()

    def _fresh_start(self, place: Place) -> None:
        self.cursor = place
        self.fresh_starts += 1
        self.told = Told()

    def _accept(self, accepted: Accepted) -> None:
        asked = self.unanswered.pop(accepted.re, None)
        run = self._run(accepted.run)
        run.conversation = run.conversation or accepted.conversation
        if run.status == LOST:
            run.restart()
            run.status = RUNNING
        if asked is not None and not run.over:
            asked.run = run.id
            self._own[run.id] = asked
        if accepted.duplicate:  # its reply may be over, or half said
            self._attach(run)

    def _refuse(self, refused: Refused) -> None:
        re = refused.re or ""
        asked = self.unanswered.pop(re, None)
        if asked is not None and not self._repeat_later(asked, refused):
            keep(self.refused, re, refused.code, MAX_RUNS)
        run = self.runs.get(self._attaching.pop(re, ""))
        if run is None or run.over:
            return
        if refused.retryable:
            self._again[run.id] = None
            return
        run.status = LOST
        asked = self._own.get(run.id)
        if asked is not None:
            self._repeat_later(asked, refused)

    def _repeat_later(self, asked: Asked, refused: Refused) -> bool:
        """Whether the command of a lost reply will be repeated: never where it would bring back a
        conversation that is deleted.
        """
        run = self.runs.get(asked.run or "")
        if run is None or run.id not in self._own:
            return False
        passing = refused.retryable or refused.code == "unknown_run"
        deleted = self.told.is_deleted(run.conversation)
        if passing and asked.repeats < MAX_REPEATS and not deleted:
            self._again[run.id] = None
            return True
        del self._own[run.id]
        return False

    def _run_told(self, event: RunStarted | RunMemories | RunDelta | RunDone) -> None:
        run = self._run(event.run)
        match event:
            case RunStarted():
                run.begin(event, self.cursor if event.seq else None)
            case RunMemories():
                run.memories = event.items
            case RunDelta():
                if not run.add(event):
                    self._attach(run)
            case RunDone():
                self._finish(run, event)

    def _finish(self, run: RunState, done: RunDone) -> None:
        if not run.finish(done):
            self.mismatches += 1
            log.warning("reply.digest_differed", run=run.id, chars=done.chars, has=len(run.text))
        self._own.pop(run.id, None)
        self.told.say(done.conversation, done.message, stored=done.stored)

    def _erase(self, deleted: MessageDeleted) -> None:
        """Nothing here has the words of a message that is deleted."""
        id_ = deleted.message.id
        self.told.take(deleted)
        if id_ in self.runs:
            self.runs[id_].erase(deleted.message)
        for run in self.runs.values():
            run.forget_memory(id_)

    # The replies.

    def _running(self) -> Iterator[RunState]:
        """Those that the server may know more of, this client's own ones first."""
        running = [run for run in self.runs.values() if not run.over and run.status != LOST]
        return iter(sorted(running, key=lambda run: run.id not in self._own))

    def _run(self, id_: str) -> RunState:
        run = self.runs.get(id_)
        if run is None:
            if len(self.runs) >= MAX_RUNS:
                self._forget_a_run()
            run = self.runs[id_] = RunState(id_)
        return run

    def _forget_a_run(self) -> None:
        """The oldest that nobody waits for: one that is over, or else another client's."""
        strangers = [run for run in self.runs.values() if run.id not in self._own]
        oldest = next((run for run in strangers if run.over), None) or next(iter(strangers), None)
        if oldest is not None:
            del self.runs[oldest.id]

    def _attach_all(self) -> None:
        """Ask for what is missing of every reply that was not asked for yet."""
        missing = [run for run in self._running() if _attach_id(run.id) not in self._attaching]
        for run in missing[:MAX_ATTACHED]:
            self._attach(run)
        self._again.update(dict.fromkeys(run.id for run in missing[MAX_ATTACHED:]))

    def _attach(self, run: RunState) -> None:
        """Ask for what is missing of *run*, once until that is answered."""
        id_ = _attach_id(run.id)
        if run.over or id_ in self._attaching or not self.online:
            return
        self._attaching[id_] = run.id
        offset = len(run.text)
        self.outgoing.append({"type": "attach", "id": id_, "run": run.id, "offset": offset})


def _attach_id(run: str) -> str:
    """As the server names its answers to the replies of a ``hello``."""
    return f"attach-{run}"[:64]
