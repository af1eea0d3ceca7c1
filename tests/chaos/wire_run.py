"""One seeded run: a user's tabs on breaking lines, a short conversation, and the books of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Final, Protocol

import anyio
import httpx
import msgspec
from anyio.abc import TaskGroup

from tests.chaos.wire_check import Books, Stored, TabReply, TabState, Taken
from tests.chaos.wire_copy import Copy, Frame
from tests.chaos.wire_faults import LOSSY
from tests.chaos.wire_plan import Plan, Step
from tests.chaos.wire_proxy import Line, open_line
from tests.chaos.wire_tab import NotRead, Tab, Unanswered, read_all

SETTLED_WITHIN_S: Final = 30.0
LOOK_EVERY_S: Final = 0.02
STOP_WITHIN_S: Final = 5.0
LATE_WITHIN_S: Final = 10.0
"""What a reply may take to be stored after its end was told: the store is busy."""
AGAIN_S: Final = 0.1
READ_TRIES: Final = 100


class AnyTab(Protocol):
    """What a run needs of a tab, whoever wrote it."""

    connections: int

    async def run(self) -> None: ...
    async def ask(self, frame: Frame) -> Frame: ...
    @property
    def copy(self) -> Copy: ...
    @property
    def settled(self) -> bool:
        """Connected, and nothing is on its way that it knows of."""
        ...


TabMaker = Callable[[str, str, httpx.AsyncClient], AnyTab]
"""Makes a tab from the address of its line, a token, and a client of the server itself."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The books of a run, and what happened in it, counted."""

    books: Books
    faults: dict[str, int]
    counts: dict[str, int]
    traces: list[list[str]]
    took_s: float


class Run:
    """Carries a plan out against the server that *http* talks to."""

    def __init__(
        self,
        plan: Plan,
        http: httpx.AsyncClient,
        *,
        make_tab: TabMaker = Tab,
        target: str | None = None,
        crashed: bool = False,
        forgetful: bool = False,
    ) -> None:
        """*target*: where the lines lead, if not to where *http* does."""
        self._plan = plan
        self._http = http
        self._make_tab = make_tab
        self._target = target or str(http.base_url).rstrip("/")
        self._crashed = crashed
        self._forgetful = forgetful
        self._taken: list[Taken] = []
        self._tabs: list[AnyTab] = []
        self._lines: list[Line] = []
        self._token = ""
        self._talks: list[str] = []

    async def run(self) -> Outcome:
        """From a new guest to the books."""
        began = anyio.current_time()
        self._token = await self._new_guest()
        name = f"{self._plan.canary}-{random.randrange(1 << 32):08x}"
        self._talks = [f"{name}-{number}" for number in range(2)]
        async with AsyncExitStack() as stack:
            for number, faults in enumerate(self._plan.lines):
                line = Line(self._target, faults, seed=self._plan.seed * 10 + number)
                self._lines.append(await stack.enter_async_context(open_line(line)))
                self._tabs.append(self._make_tab(line.url, self._token, self._http))
            async with anyio.create_task_group() as tasks:
                opened = self._tabs[:-1] if self._plan.late else self._tabs
                for tab in opened:
                    tasks.start_soon(tab.run)
                await self._play(tasks)
                await self._settle()
                tasks.cancel_scope.cancel()
        books = await self._books()
        return Outcome(
            books=books,
            faults=dict(sum((line.made for line in self._lines), Counter())),
            counts=self._counts(),
            traces=[list(tab.copy.trace) for tab in self._tabs],
            took_s=anyio.current_time() - began,
        )

    async def _new_guest(self) -> str:
        while True:  # until there is a server; a run is bounded as a whole
            with suppress(httpx.HTTPError):
                answer = await self._http.post("/api/session")
                answer.raise_for_status()
                return str(answer.json()["token"])
            await anyio.sleep(AGAIN_S)

    async def _play(self, tasks: TaskGroup) -> None:
        async with anyio.create_task_group() as stops:
            for number, step in enumerate(self._plan.steps):
                # A late tab is asked for nothing before it is there.
                tab = 0 if self._plan.late and not number else step.tab
                await self._step(number, step, self._tabs[tab], stops)
                if self._plan.late and not number:
                    tasks.start_soon(self._tabs[-1].run)

    async def _step(self, number: int, step: Step, tab: AnyTab, stops: TaskGroup) -> None:
        frame, taken = self._command(number, step)
        try:
            answer = await tab.ask(frame)
        except Unanswered as never:
            self._taken.append(msgspec.structs.replace(taken, code=f"never answered: {never}"))
            return
        if answer["type"] == "error":
            self._taken.append(msgspec.structs.replace(taken, code=answer["code"]))
            return
        taken = msgspec.structs.replace(
            taken,
            message=answer["message"],
            run=answer["run"],
            conversation=answer["conversation"],
            stopped=step.stop_after is not None,
        )
        self._taken.append(taken)
        if step.stop_after is not None:
            stops.start_soon(self._stop, f"{frame['id']}-stop", taken.run, step)
        if step.wait:
            with anyio.move_on_after(SETTLED_WITHIN_S):
                while not self._ended(tab, taken.run):
                    await anyio.sleep(LOOK_EVERY_S)

    def _command(self, number: int, step: Step) -> tuple[Frame, Taken]:
        id_ = f"{self._talks[0]}-{number}"
        talk = self._talks[step.conversation]
        before = [it for it in self._taken if it.run and it.conversation == talk]
        if step.kind == "send" or not before:
            frame = {"type": "send", "id": id_, "text": step.text, "conversation": talk}
            return frame, Taken(kind="send", id=id_, text=step.text, conversation=talk)
        last = before[-1]
        if step.kind == "edit":
            frame = {"type": "edit", "id": id_, "message": last.message, "text": step.text}
            return frame, Taken(kind="edit", id=id_, text=step.text, conversation=talk)
        frame = {"type": "regenerate", "id": id_, "message": last.message}
        return frame, Taken(kind="regenerate", id=id_, text=last.text, conversation=talk)

    async def _stop(self, id_: str, run: str, step: Step) -> None:
        with anyio.move_on_after(STOP_WITHIN_S):
            while self._longest(run) < (step.stop_after or 0):
                await anyio.sleep(LOOK_EVERY_S)
        tab = self._tabs[0 if self._plan.late else step.stop_tab]
        try:
            await tab.ask({"type": "stop", "id": id_, "run": run})
        except Unanswered as never:
            tab.copy.complain("unanswered", str(never))

    def _longest(self, run: str) -> int:
        replies = [tab.copy.replies.get(run) for tab in self._tabs]
        return max(len(reply.text) if reply else 0 for reply in replies)

    @staticmethod
    def _ended(tab: AnyTab, run: str) -> bool:
        reply = tab.copy.replies.get(run)
        return reply is not None and reply.done

    async def _settle(self) -> None:
        """Let nothing go wrong any more, and wait until every tab knows everything; what it does
        not know in time the checker says.
        """
        for line, faults in zip(self._lines, self._plan.lines, strict=True):
            line.calm()
            if any(fault.action in LOSSY for fault in faults):
                line.cut()
        with anyio.move_on_after(SETTLED_WITHIN_S):
            while not all(self._knows_all(tab) for tab in self._tabs):
                await anyio.sleep(LOOK_EVERY_S)

    def _knows_all(self, tab: AnyTab) -> bool:
        accepted = [taken for taken in self._taken if taken.run]
        return (
            tab.settled
            and all(taken.message in tab.copy.said for taken in accepted)
            and all(self._ended(tab, taken.run) or self._given_up(tab, taken) for taken in accepted)
        )

    def _given_up(self, tab: AnyTab, taken: Taken) -> bool:
        """The history said that the reply never comes, and none has begun since."""
        copy = tab.copy
        never = taken.message in copy.interrupted and taken.run not in copy.replies
        return self._crashed and never

    async def _books(self) -> Books:
        wanted = {taken.run for taken in self._taken if taken.run and not self._crashed}
        stored = await self._export()
        with anyio.move_on_after(LATE_WITHIN_S):
            while not wanted <= {record.id for record in stored}:
                await anyio.sleep(AGAIN_S)
                stored = await self._export()
        history = await self._history()
        return Books(
            name=self._plan.name,
            canary=self._plan.canary,
            taken=self._taken,
            tabs=[state_of(f"tab {number}", tab.copy) for number, tab in enumerate(self._tabs)],
            stored=stored,
            shown={
                conversation: [message["id"] for message in messages]
                for conversation, messages in history.items()
            },
            crashed=self._crashed,
            forgetful=self._forgetful,
        )

    async def _export(self) -> list[Stored]:
        headers = {"Authorization": f"Bearer {self._token}"}
        while True:  # a run is bounded as a whole; four exports are made at the same time at most
            with suppress(httpx.HTTPError):
                answer = await self._http.get("/api/export", headers=headers)
                if answer.status_code == httpx.codes.OK:
                    lines = answer.content.split(b"\n")
                    return [msgspec.json.decode(line, type=Stored) for line in lines if line]
            await anyio.sleep(AGAIN_S)

    async def _history(self) -> dict[str, list[Frame]]:
        for _ in range(READ_TRIES):
            try:
                found = await read_all(self._http, self._token, branches=False)
            except (NotRead, httpx.HTTPError):
                await anyio.sleep(AGAIN_S)
            else:
                return {conversation: messages for conversation, messages, _ in found}
        raise AssertionError("the history cannot be read")

    def _counts(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for tab in self._tabs:
            total["connections"] += tab.connections
            total["replies"] += len(tab.copy.replies)
            total["mended"] += sum(reply.mended for reply in tab.copy.replies.values())
            total.update(vars(tab.copy.counts))
        return dict(total)


def state_of(name: str, copy: Copy) -> TabState:
    """*copy* as the checker reads it."""
    return TabState(
        name=name,
        said={said.id: said.text for said in copy.said.values()},
        replies={
            reply.run: TabReply(reply.text, reply.done, reply.status)
            for reply in copy.replies.values()
        },
        order={
            f"{epoch}/{seq}": f"{kind} {subject}"
            for (epoch, seq), (kind, subject) in copy.order.items()
        },
        told={f"{epoch} {kind} {subject}": n for (epoch, kind, subject), n in copy.told.items()},
        complaints=list(copy.complaints),
    )


def summed(outcomes: Sequence[Outcome]) -> tuple[dict[str, int], dict[str, int]]:
    """Faults and counts of all of them."""
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
        counts.update(outcome.counts)
    return dict(faults), dict(counts)
