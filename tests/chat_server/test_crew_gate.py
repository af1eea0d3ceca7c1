from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest

from chat_server.crew import Crew
from chat_server.crew_gate import CrewGate
from memory import store_gate


class Held:
    """Stands for a crew: notes when it is held, and let go."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @asynccontextmanager
    async def held(self, *, batches_only: bool) -> AsyncIterator[None]:
        self.seen.append("batches" if batches_only else "all")
        try:
            yield
        finally:
            self.seen.append("let go")


@pytest.fixture(autouse=True)
def briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_gate, "SETTLE_S", 0.005)


def gate_of(crew: Held) -> CrewGate:
    gate = CrewGate()
    gate.open_to(cast("Crew", crew))
    return gate


async def test_it_closes_in_all_processes() -> None:
    crew = Held()
    gate = gate_of(crew)
    async with gate.closed():
        assert crew.seen == ["all"]
        with anyio.move_on_after(0.02) as waiting:
            async with gate.request("id", "read"):
                pass
        assert waiting.cancelled_caught
    async with gate.closed_to_batches(), gate.request("id", "read"):
        pass
    assert crew.seen == ["all", "let go", "batches", "let go"]


async def test_before_there_are_others_it_is_a_gate_like_any() -> None:
    gate = CrewGate()
    async with gate.closed():
        pass
    async with gate.closed_to_batches():
        pass


async def test_all_are_let_go_after_a_failure() -> None:
    crew = Held()
    with pytest.raises(RuntimeError):
        async with gate_of(crew).closed():
            raise RuntimeError
    assert crew.seen == ["all", "let go"]


async def test_what_others_have_asked_counts_as_asked() -> None:
    gate = CrewGate()
    async with gate.request("a", "read"):
        pass
    gate.asked(("b", "c"))
    assert gate.asked_within(5.0) == {"a", "b", "c"}
    await anyio.sleep(0.02)
    assert gate.asked_within(0.01) == set()
