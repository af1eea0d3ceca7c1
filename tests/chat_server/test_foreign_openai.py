from __future__ import annotations

import json
from typing import Any

import pytest

from chat_server.foreign_formats import Skipped
from chat_server.foreign_openai import openai_lines
from chat_server.transfer_lines import Line

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which bird is blue?", "name": "Ana"},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "content": "{}"},
    {"role": "assistant", "content": [{"type": "text", "text": "The bluetit."}]},
]


def lines_of(content: str) -> list[Line]:
    return [it for it in openai_lines(content.encode()) if isinstance(it, Line)]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(CHAT),
        json.dumps(CHAT, indent=1),
        json.dumps({"messages": CHAT, "model": "m"}, indent=1),
        json.dumps([CHAT]),
        json.dumps([{"messages": CHAT}]),
        json.dumps({"messages": CHAT}) + "\n",
    ],
)
def test_a_conversation_in_any_of_the_shapes(content: str) -> None:
    first, second = lines_of(content)
    assert (first.role, first.text, first.author) == ("user", "Which bird is blue?", "Ana")
    assert (second.role, second.text, second.author) == ("assistant", "The bluetit.", None)
    assert (first.parent, second.parent) == (None, first.id)
    assert first.conversation == second.conversation == lines_of(json.dumps(CHAT))[0].conversation


def test_each_line_of_json_lines_is_a_conversation_and_damaged_ones_are_told() -> None:
    other = [{"role": "user", "content": "Other."}]
    content = "\n".join(
        [json.dumps({"messages": CHAT}), "{", json.dumps(other), '{"messages": 3}']
    ).encode()
    found = list(openai_lines(content))
    lines = [it for it in found if isinstance(it, Line)]
    assert len({it.conversation for it in lines}) == 2
    assert [it.number for it in found if isinstance(it, Skipped)] == [2, 4]


def test_json_lines_of_single_messages_are_one_conversation() -> None:
    content = "\n".join(json.dumps(message) for message in CHAT)
    first, second = lines_of(content)
    assert second.parent == first.id
