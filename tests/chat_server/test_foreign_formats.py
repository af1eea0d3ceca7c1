from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.foreign_formats import Part, UnknownFormat, decoded, detect, joined, values

MESSAGE = {"role": "user", "content": "hi"}
LINE = {"id": "a", "conversation": "c", "role": "user", "text": "hi"}
GPT = {"title": "t", "mapping": {}}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (json.dumps([GPT, GPT]), "chatgpt"),
        (json.dumps(GPT, indent=1), "chatgpt"),
        (json.dumps([MESSAGE]), "openai"),
        (json.dumps([[MESSAGE]]), "openai"),
        (json.dumps({"messages": [MESSAGE]}, indent=1), "openai"),
        (json.dumps({"messages": [MESSAGE]}) + "\n" + json.dumps([MESSAGE]), "openai"),
        (json.dumps(MESSAGE) + "\n" + json.dumps(MESSAGE), "openai"),
        ("\n" + json.dumps(LINE) + "\nnonsense\n", "ndjson"),
        (json.dumps(LINE), "ndjson"),
    ],
)
def test_a_format_is_known_by_its_first_element(content: str, kind: str) -> None:
    assert detect(content.encode()) == kind
    assert detect(memoryview(content.encode())) == kind


@pytest.mark.parametrize("content", [b"", b"[]", b"hello", b"{}", b'{"a": 1}', b"3", b"\x00\xff"])
def test_what_is_none_of_them_is_said_so(content: bytes) -> None:
    with pytest.raises(UnknownFormat):
        detect(content)


@given(parts=st.lists(st.sampled_from([b"{}", b"[1]", b"nonsense", b""]), max_size=8))
def test_lines_are_taken_one_by_one_whatever_is_in_them(parts: list[bytes]) -> None:
    content = b'{"first": 1}\n' + b"\n".join(parts)
    found = [bytes(value) for value in values(content)]
    assert found == [b'{"first": 1}', *(part for part in parts if part)]


def test_lines_longer_than_a_look_are_whole() -> None:
    long = json.dumps({"a": "x" * 200_000}).encode()
    assert [bytes(value) for value in values(long + b"\n" + long)] == [long, long]


def test_the_parts_of_a_text_are_joined_and_pictures_left_out() -> None:
    parts = [
        "one",
        None,
        Part(content_type="image_asset_pointer", text="no"),
        Part(type="output_text", text="two"),
        Part(type="text"),
        "",
        "three",
    ]
    assert joined(parts) == "one\ntwo\nthree"


def test_what_is_of_another_shape_is_none() -> None:
    assert decoded(b'{"type": 3}', Part) is None
    assert decoded(b"[" * 100_000, Part) is None
