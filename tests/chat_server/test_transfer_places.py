from __future__ import annotations

import pytest

from chat_server import transfer_places
from chat_server.transfer_lines import BadLine, Line
from chat_server.transfer_places import Places, Recent
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import message_id
from tests.chat_server.transfer_world import ANN


def said(name: str, **more: str | None) -> Line:
    conversation = more.pop("conversation", None) or "c"
    return Line(id=name, conversation=conversation, role="user", text=name, **more)  # type: ignore[arg-type]  # what is given by name has the right type


def test_of_many_the_ones_set_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_places, "REMEMBERED", 2)
    recent: Recent[int] = Recent()
    for number, key in enumerate(["a", "b", "a", "c"]):
        recent.set(key, number)
    assert [recent.get(key) for key in "abc"] == [2, None, 3]
    recent.forget("a")
    recent.forget("never known")
    assert recent.get("a") is None


async def test_what_was_not_stored_cannot_be_followed() -> None:
    places = Places(InProcessLongTermMemory(), ANN)
    first = said("l1")
    message = await places.place(first, {})
    places.remember(first, message)
    second = await places.place(said("l2", parent="l1"), {})
    assert (second.parent, second.depth) == (message_id(ANN, "l1"), 1)
    places.forget(first)
    with pytest.raises(BadLine, match="unknown_parent"):
        await places.place(said("l2", parent="l1"), {})
    assert (await places.place(said("l3"), {})).parent is None


async def test_the_head_is_the_line_that_the_conversations_first_line_named() -> None:
    places = Places(InProcessLongTermMemory(), ANN)
    first = said("l1", head="l2")
    places.remember(first, await places.place(first, {}))
    assert not places.is_head(first)
    assert places.is_head(said("l2"))
    assert not places.is_head(said("l2", conversation="d"))
