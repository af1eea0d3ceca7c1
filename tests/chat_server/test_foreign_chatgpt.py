from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chat_server.foreign_chatgpt import chatgpt_lines
from chat_server.foreign_formats import Skipped
from chat_server.transfer_lines import Line, encode_line, parse_line

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "conversations.json"


def node(parent: str | None, text: str = "", role: str = "user", **more: Any) -> dict[str, Any]:
    message = {
        "author": {"role": role},
        "content": {"content_type": "text", "parts": [text]},
        **more,
    }
    return {"message": message, "parent": parent, "children": []}


def lines_of(mapping: dict[str, Any], **more: Any) -> list[Line]:
    content = json.dumps([{"id": "x", "mapping": mapping, **more}]).encode()
    found = list(chatgpt_lines(content))
    assert all(isinstance(it, Line) for it in found)
    return [it for it in found if isinstance(it, Line)]


def test_a_conversation_is_read_without_what_is_hidden_and_tools() -> None:
    found = [it for it in chatgpt_lines(FIXTURE.read_bytes()) if isinstance(it, Line)]
    bread = [it for it in found if it.conversation == found[0].conversation]
    assert [(it.role, it.text, it.timestamp, it.model) for it in bread] == [
        (
            "user",
            "My sourdough starter is called Gertrude and she will not rise. Why?",
            1712000010.25,
            None,
        ),
        ("assistant", "She may be cold.", 1712000015.0, "gpt-4"),
        (
            "assistant",
            "Feed Gertrude with rye flour\nand keep her at 26 degrees.",
            1712000018.0,
            "gpt-4o",
        ),
        ("user", "She doubled overnight!", 1712000300.0, None),
    ]
    asked, cold, rye, thanks = bread
    assert asked.parent is None
    assert (cold.parent, rye.parent, thanks.parent) == (asked.id, asked.id, rye.id)
    assert (asked.title, asked.head) == ("Sourdough that rises", rye.id)
    assert (rye.title, rye.head) == (None, None)


def test_what_has_no_time_has_its_conversations_and_no_title_is_none() -> None:
    owls = [it for it in chatgpt_lines(FIXTURE.read_bytes()) if isinstance(it, Line)][-2:]
    assert [it.timestamp for it in owls] == [1713000000.0, 1713000000.0]
    assert (owls[0].title, owls[0].head, owls[1].parent) == (None, None, owls[0].id)


def test_a_conversation_that_cannot_be_read_is_told_and_the_others_are_not_lost() -> None:
    found = list(chatgpt_lines(FIXTURE.read_bytes()))
    assert found[-1] == Skipped(3, "not a conversation of ChatGPT")
    assert len(found) == 7


def test_all_lines_are_lines_for_the_server_and_ids_stay_the_same() -> None:
    content = FIXTURE.read_bytes()
    found = [it for it in chatgpt_lines(content) if isinstance(it, Line)]
    assert [parse_line(encode_line(it)) for it in found] == found
    assert list(chatgpt_lines(memoryview(content))) == list(chatgpt_lines(content))
    assert len({it.id for it in found}) == len(found)


@given(
    parents=st.lists(st.integers(-1, 9), min_size=1, max_size=10),
    hidden=st.sets(st.integers(0, 9)),
)
def test_any_links_give_parents_before_what_follows_them(
    parents: list[int], hidden: set[int]
) -> None:
    mapping = {
        str(number): node(
            None if parent < 0 else str(parent), str(number), "tool" if number in hidden else "user"
        )
        for number, parent in enumerate(parents)
    }
    seen: set[str] = set()
    for line in lines_of(mapping, current_node="0"):
        assert line.parent is None or line.parent in seen
        assert line.id not in seen
        seen.add(line.id)
    if all(parent < number for number, parent in enumerate(parents)):
        assert len(seen) == len(set(range(len(parents))) - hidden)


def test_what_is_said_to_a_tool_is_left_out() -> None:
    mapping = {
        "a": node(None, "hello"),
        "b": node("a", "search", "assistant", recipient="browser"),
        "c": node("b", "hidden", "user", metadata={"is_visually_hidden_from_conversation": True}),
        "d": node("c", "hi", "assistant", recipient="all"),
    }
    first, last = lines_of(mapping)
    assert (first.text, last.text, last.parent) == ("hello", "hi", first.id)
