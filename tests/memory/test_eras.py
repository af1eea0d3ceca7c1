from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from memory.eras import Eras
from memory.errors import StoreError, StoreUnavailable, UserBeingErased
from memory.messages import UserId

ANN, BEN = UserId("ann"), UserId("ben")


async def upper(_key: str, batch: Sequence[str]) -> list[str | StoreError]:
    return [item.upper() for item in batch]


async def test_what_was_asked_for_before_the_end_of_an_era_is_refused_and_only_that() -> None:
    eras = Eras()
    batch = [eras.stamped(ANN, "a"), eras.stamped(BEN, "b"), eras.stamped(ANN, "c")]
    eras.end(ANN)
    batch.append(eras.stamped(ANN, "d"))
    first, second, third, fourth = await eras.checked(upper)("shelf", batch)
    assert isinstance(first, UserBeingErased)
    assert isinstance(third, UserBeingErased)
    assert (second, fourth) == ("B", "D")


async def test_nothing_is_written_where_all_is_refused() -> None:
    async def never(_key: str, _batch: Sequence[str]) -> list[str | StoreError]:
        raise AssertionError("there is nothing to write")

    eras = Eras()
    batch = [eras.stamped(ANN, "a")]
    eras.end(ANN)
    (outcome,) = await eras.checked(never)("shelf", batch)
    assert isinstance(outcome, UserBeingErased)


async def test_a_write_that_fails_fails_as_it_does_without() -> None:
    async def failing(_key: str, _batch: Sequence[str]) -> list[str | StoreError]:
        raise StoreUnavailable("away")

    eras = Eras()
    with pytest.raises(StoreUnavailable, match="away"):
        await eras.checked(failing)("shelf", [eras.stamped(ANN, "a")])
    await eras.settle()


async def test_settling_waits_for_the_writes_that_are_under_way() -> None:
    eras = Eras()
    gate, order = anyio.Event(), list[str]()

    async def slow(_key: str, batch: Sequence[str]) -> list[str | StoreError]:
        await gate.wait()
        order.append("written")
        return list(batch)

    async def write() -> None:
        await eras.checked(slow)("shelf", [eras.stamped(ANN, "a")])

    async def settle() -> None:
        await eras.settle()
        order.append("settled")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(settle)
        await anyio.lowlevel.checkpoint()
        assert order == []
        gate.set()
    assert order == ["written", "settled"]
