"""A whole server's inside on twins: no processes, no sockets, everything within reach."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import msgspec

from chat_server.authentication import Identity
from chat_server.desk import Desk
from chat_server.errors import ModelFailed
from chat_server.events import ServerEvent
from chat_server.fanout import Fanout
from chat_server.late_replies import LateReplies
from chat_server.log_config import Pseudonyms
from chat_server.metrics import Metrics
from chat_server.offline_responder import OfflineResponder
from chat_server.outbox import Outbox
from chat_server.preparation import Drafted
from chat_server.prompt import Prompt
from chat_server.protocol import Edit, Regenerate, Send
from chat_server.rate_limit import RateLimiter
from chat_server.reply_model import ReplyEnd, ReplyText
from chat_server.runs import Runs
from chat_server.turn import Turns
from memory.dual_memory import DualMemory
from memory.hot import open_hot_memories
from memory.hot_entries import HotLimits
from memory.in_process_embedder import InProcessEmbedder
from memory.in_process_long_term import InProcessLongTermMemory
from memory.in_process_short_term import InProcessShortTermMemory
from memory.journal import Journal
from memory.messages import UserId
from memory.short_term import ShortTermPolicy

Frame = dict[str, Any]


class ScriptedModel:
    """Says ``pieces``; waits for ``gate`` before the first and ``rest`` after the second one."""

    name = "scripted"

    def __init__(self) -> None:
        self.pieces: list[str] = ["Well", ", ", "hello", "."]
        self.failure: ModelFailed | None = None
        self.fails_after = 0
        self.fault: Exception | None = None
        self.gate: anyio.Event | None = None
        self.rest: anyio.Event | None = None
        self.prompts: list[Prompt] = []
        self.asked = anyio.Event()
        self.ended_early = 0

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ReplyText | ReplyEnd, None]:
        self.prompts.append(prompt)
        self.asked.set()
        said = 0
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.fault is not None:
                raise self.fault
            for piece in self.pieces:
                if self.failure is not None and said == self.fails_after:
                    raise self.failure
                yield ReplyText(piece)
                said += 1
                if self.rest is not None and said == 2:
                    await self.rest.wait()
            yield ReplyEnd("stop", 7, said)
        except (GeneratorExit, anyio.get_cancelled_exc_class()):
            self.ended_early += 1
            raise

    async def aclose(self) -> None:
        pass


class TwinWorld:
    """The parts, and one connected tab of one user."""

    def __init__(
        self,
        desk: Desk,
        turns: Turns,
        long_term: InProcessLongTermMemory,
        short_term: InProcessShortTermMemory,
        model: ScriptedModel,
    ) -> None:
        self.desk = desk
        self.turns = turns
        self.long_term = long_term
        self.short_term = short_term
        self.model = model
        self.user = UserId("ana")
        self.identity = Identity(self.user, None)
        self.outbox = Outbox()
        self.frames: list[Frame] = []

    async def take(self, text: str, **more: Any) -> Frame:
        """Send as this user; the ``accepted`` event, or the error that is raised."""
        drafted = more.pop("drafted", None)
        send = Send(id=more.pop("id", None) or token_hex(8), text=text, **more)
        return await self.accepted(send, drafted)

    async def edit(self, message: str, text: str, **more: Any) -> Frame:
        """Say *text* in the place of *message*; as :meth:`take`."""
        id_ = more.pop("id", None) or token_hex(8)
        return await self.accepted(Edit(id=id_, message=message, text=text))

    async def regenerate(self, message: str, **more: Any) -> Frame:
        """Have another reply made; as :meth:`take`."""
        id_ = more.pop("id", None) or token_hex(8)
        return await self.accepted(Regenerate(id=id_, message=message))

    async def accepted(
        self, said: Send | Edit | Regenerate, drafted: Drafted | None = None
    ) -> Frame:
        """What is answered to *said*; what is refused is raised."""
        answers: list[ServerEvent] = []
        await self.turns.take(said, self.identity, answers.append, drafted)
        (answer,) = answers
        accepted: Frame = msgspec.to_builtins(answer)
        return accepted

    async def until(self, matches: Callable[[Frame], bool]) -> Frame:
        """Read events until one *matches*."""
        with anyio.fail_after(10):
            while True:
                frame: Frame = msgspec.json.decode((await self.outbox.take()).payload)
                self.outbox.written()
                self.frames.append(frame)
                if matches(frame):
                    return frame

    async def done(self, run: str) -> Frame:
        for frame in self.frames:
            if frame["type"] == "run.done" and frame["run"] == run:
                return frame
        return await self.until(lambda frame: frame["type"] == "run.done" and frame["run"] == run)

    async def ask(self, text: str, **more: Any) -> Frame:
        return await self.done((await self.take(text, **more))["run"])

    async def stored(self, conversation: str) -> list[tuple[str, str, str]]:
        """Role, text and status of a conversation's messages, oldest first."""
        found = await self.long_term.latest(self.user, conversation, limit=100)  # type: ignore[arg-type]  # tests name conversations plainly
        return [(message.role, message.text, message.status) for message in found]


@asynccontextmanager
async def temporary_folder() -> AsyncIterator[Path]:
    """A folder that is gone at the end, after all tasks that write to it."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@asynccontextmanager
async def twin_world(
    policy: ShortTermPolicy | None = None,
    *,
    long_term: InProcessLongTermMemory | None = None,
    journal_folder: Path | None = None,
) -> AsyncIterator[TwinWorld]:
    """Everything open, on twins; what still runs at the end is cancelled.

    What another world left can be given: its store, its journal.
    """
    long_term, embedder = long_term or InProcessLongTermMemory(), InProcessEmbedder()
    policy = policy or ShortTermPolicy(user_limit=1000)
    short_term = InProcessShortTermMemory(policy)
    model = ScriptedModel()
    async with (
        temporary_folder() as folder,
        open_hot_memories(long_term, HotLimits(messages=100, size_bytes=10_000_000)) as hot,
        anyio.create_task_group() as tasks,
    ):
        memory = DualMemory(
            long_term, short_term, embedder, hot, window_messages=policy.window_messages
        )
        metrics, runs, fanout = Metrics(Pseudonyms()), Runs(), Fanout()
        journal = Journal.open(journal_folder or folder)
        late = LateReplies(memory, runs, fanout, journal, metrics)
        late.take_over(journal.kept)
        desk = Desk(
            memory=memory,
            model=model,
            fallback=OfflineResponder("unreachable"),
            runs=runs,
            fanout=fanout,
            journal=journal,
            late=late,
            metrics=metrics,
            system_prompt="Be brief.",
            context_tokens=3000,
            max_results=5,
        )
        turns = Turns(desk, RateLimiter(short_term, policy), tasks=tasks, max_text_bytes=12_000)
        tasks.start_soon(journal.run)
        tasks.start_soon(late.run)
        world = TwinWorld(desk, turns, long_term, short_term, model)
        async with desk.fanout.joined(world.user, world.outbox):
            yield world
        tasks.cancel_scope.cancel()
