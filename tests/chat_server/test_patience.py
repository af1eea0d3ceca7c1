from __future__ import annotations

import pytest

from chat_server import patience
from chat_server.patience import insist, passing
from memory.errors import (
    CorruptRecord,
    IdConflict,
    StoreBusy,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreUnknown,
)


class Store:
    """Answers after it has raised its *faults*."""

    def __init__(self, *faults: StoreError) -> None:
        self.faults = list(faults)
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        return "answer"


async def test_faults_that_pass_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0)
    store = Store(StoreUnavailable("away"), StoreUnknown("lost"), StoreBusy("full"))
    assert await insist(store.ask) == "answer"
    assert store.asked == 4


async def test_when_the_time_is_over_the_last_fault_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "WITHIN_S", 0)
    store = Store(StoreUnavailable("away"), StoreUnavailable("still away"))
    with pytest.raises(StoreUnavailable):
        await insist(store.ask)
    assert store.asked == 1


@pytest.mark.parametrize("fault", [StoreRefused("no"), IdConflict("m"), CorruptRecord("m", "v")])
async def test_faults_that_stay_are_raised_at_once(fault: StoreError) -> None:
    store = Store(fault)
    assert not passing(fault)
    with pytest.raises(type(fault)):
        await insist(store.ask)
    assert store.asked == 1
