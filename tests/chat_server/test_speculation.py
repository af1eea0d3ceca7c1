"""What is typed is prepared, and used only for what is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from chat_server.preparation import Drafted
from chat_server.speculation import DRAFTS_PER_S, Speculation
from chat_server.speculation_metrics import SpeculationMetrics
from memory.embedding import Embedded
from memory.messages import UserId
from memory.token_marks import no_marks

ANN = UserId("ann")
EMBEDDED = Embedded(np.ones(64, np.float32), no_marks(64))


class Preparing:
    """Prepares when the gate is open; what it began and what it ended stand in lists."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.gate = anyio.Event()
        self.gate.set()

    async def prepare(self, user: UserId, text: str) -> Drafted | None:
        assert user == ANN
        self.begun.append(text)
        await self.gate.wait()
        self.ended.append(text)
        return None if text == "fails" else Drafted(text, EMBEDDED, 5.0)


class Typist:
    """A connection's drafts, and what is counted of them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.preparing = Preparing()
        self.speculation = Speculation(
            SpeculationMetrics(self.registry), max_text_bytes=100, clock=lambda: self.now
        )

    async def type(self, text: str) -> None:
        self.now += 1
        self.speculation.typed(text)
        await anyio.wait_all_tasks_blocked()

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"tandem_speculation_{name}_total", labels) or 0.0


@asynccontextmanager
async def typing() -> AsyncIterator[Typist]:
    typist = Typist()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(typist.speculation.run, typist.preparing, ANN)
        yield typist
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "sent",
    [
        "Where is  my\nboat",
        "Where is my boat?",
        "Where is my boat ?!",
        "Where is my boat\u2026\uff1f",
    ],
)
async def test_what_was_typed_serves_what_is_sent(sent: str) -> None:
    async with typing() as typist:
        await typist.type("Where is my boat")
        drafted = typist.speculation.take(sent)
        assert drafted is not None
        assert drafted.text == "Where is my boat"
        assert typist.count("sends", outcome="hit") == 1
        assert typist.count("saved_milliseconds") == 5


@pytest.mark.parametrize(
    "sent", ["Where is my boat now?", "Where is my", "where is my boat", "\u03b1"]
)
async def test_another_text_is_not_served(sent: str) -> None:
    async with typing() as typist:
        await typist.type("Where is my boat")
        assert typist.speculation.take(sent) is None
        assert typist.count("sends", outcome="miss") == 1
        assert typist.count("saved_milliseconds") == 0


async def test_a_draft_serves_once() -> None:
    async with typing() as typist:
        await typist.type("boat")
        assert typist.speculation.take("boat") is not None
        assert typist.speculation.take("boat") is None
        assert typist.count("sends", outcome="miss") == 0


async def test_a_newer_draft_takes_the_place_of_one_that_is_being_prepared() -> None:
    async with typing() as typist:
        typist.preparing.gate = anyio.Event()
        for text in ("a", "ab", "abc"):
            await typist.type(text)
        typist.preparing.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert typist.preparing.ended == ["abc"]
        assert typist.speculation.take("abc") is not None
        assert typist.count("drafts", fate="replaced") == 2


async def test_a_message_does_not_wait_for_its_draft() -> None:
    async with typing() as typist:
        typist.preparing.gate = anyio.Event()
        await typist.type("boat")
        assert typist.speculation.take("boat") is None
        assert typist.count("sends", outcome="late") == 1
        typist.preparing.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert typist.speculation.take("boat") is None


async def test_what_comes_too_often_or_is_too_long_is_dropped() -> None:
    async with typing() as typist:
        for number in range(DRAFTS_PER_S + 3):
            typist.speculation.typed(f"text {number}")
        typist.now += 1
        typist.speculation.typed("x" * 101)
        typist.speculation.typed("  ")
        await anyio.wait_all_tasks_blocked()
        assert typist.preparing.begun == [f"text {DRAFTS_PER_S - 1}"]
        assert typist.count("drafts", fate="dropped") == 5


async def test_a_draft_that_cannot_be_prepared_serves_nothing_and_ends_nothing() -> None:
    async with typing() as typist:
        await typist.type("fails")
        assert typist.speculation.take("fails") is None
        await typist.type("works")
        assert typist.speculation.take("works") is not None
