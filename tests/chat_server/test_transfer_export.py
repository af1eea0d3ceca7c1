from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_server import patience, transfer_export
from memory.errors import StoreUnavailable
from tests.chat_server.transfer_world import (
    ANN,
    BOB,
    Fields,
    TransferWorld,
    line,
    transfer_world,
    without_ids,
)


@pytest.fixture
async def world() -> AsyncIterator[TransferWorld]:
    async with transfer_world() as opened:
        yield opened


@st.composite
def trees(draw: st.DrawFn) -> list[Fields]:
    """Lines of a few conversations, with branches; parents stand before their children."""
    lines: list[Fields] = []
    known: dict[str, list[str]] = {}
    for number in range(draw(st.integers(0, 40))):
        conversation = draw(st.sampled_from(["a", "b", "c-1"]))
        own = known.setdefault(conversation, [])
        more: Fields = {"parent": draw(st.sampled_from(own)) if own else None}
        if draw(st.booleans()):
            more |= {"role": "assistant", "model": "m", "status": draw(st.sampled_from(STATUSES))}
        if draw(st.booleans()):
            more["author"] = draw(st.text("abc é", min_size=1, max_size=10))
        if not own:
            more["title"] = draw(st.text(max_size=20))
        more["timestamp"] = draw(st.floats(0, 4e9))
        more["text"] = draw(st.text(st.characters(exclude_categories=["Cs"]))) + "."
        lines.append(line(number, conversation=conversation, **more))
        own.append(f"l{number}")
    return lines


STATUSES = ("completed", "stopped", "interrupted", "failed")


@given(lines=trees())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_a_round_trip_to_somebody_else_changes_only_ids(lines: list[Fields]) -> None:
    async with transfer_world() as world:
        counts = await world.import_(lines)
        assert (counts.stored, counts.errors) == (len(lines), 0)
        first = await world.export()
        again = await world.import_(first)
        assert (again.stored, again.duplicates, again.errors) == (0, len(lines), 0)
        other = await world.import_(first, BOB)
        assert (other.stored, other.errors) == (len(lines), 0)
        mine, theirs = await world.exported(), await world.exported(BOB)
        assert without_ids(mine) == without_ids(theirs)
        assert not {it["id"] for it in mine} & {it["id"] for it in theirs}
        for conversation in ("a", "b", "c-1"):
            assert await world.texts(conversation) == await world.texts(conversation, BOB)


async def test_conversations_come_oldest_first_and_parents_before_what_follows(
    world: TransferWorld,
) -> None:
    await world.import_(
        [
            line(1, conversation="new", timestamp=9, title="New"),
            line(2, conversation="old", timestamp=1),
            line(3, conversation="new", timestamp=9, parent="l1"),
            line(4, conversation="new", timestamp=8, parent="l1"),
        ]
    )
    found = await world.exported()
    assert [it["text"] for it in found] == ["text 2", "text 1", "text 3", "text 4"]
    assert [it.get("title") for it in found] == ["text 2", "New", None, None]
    assert await world.exported(BOB) == []


async def test_long_conversations_and_many_of_them_are_walked_in_parts(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_export, "CONVERSATIONS_PER_READ", 2)
    lines = [line(n, conversation=f"c{n % 5}", timestamp=n) for n in range(300)]
    await world.import_(lines)
    found = await world.exported()
    assert {it["text"] for it in found} == {it["text"] for it in lines}
    assert len(found) == 300


async def test_the_shown_branch_is_shown_after_a_round_trip(world: TransferWorld) -> None:
    await world.import_([line(1, head="l2"), line(2, parent="l1"), line(3, parent="l1")])
    assert await world.texts("c") == ["text 1", "text 2"]
    await world.import_(await world.export(), BOB)
    assert await world.texts("c", BOB) == ["text 1", "text 2"]
    assert without_ids(await world.exported(BOB)) == without_ids(await world.exported(ANN))


async def test_a_store_that_stays_away_breaks_the_export_off(
    world: TransferWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WITHIN_S", 0)
    world.long_term.away = True
    with pytest.raises(StoreUnavailable):
        await world.export()
