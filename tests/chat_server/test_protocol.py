from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat_server.errors import ChatError
from chat_server.protocol import (
    AnyClientFrame,
    Attach,
    Auth,
    BadFrame,
    Draft,
    Edit,
    Hello,
    Ping,
    Pong,
    Regenerate,
    ResumePoint,
    RunPoint,
    Send,
    SendOptions,
    Stop,
    check_text,
    parse_frame,
)

TYPES = [
    "hello", "auth", "send", "stop", "regenerate", "edit", "attach", "draft", "ping", "pong",
]  # fmt: skip
FIELDS = [
    "type", "v", "token", "client", "resume", "runs", "id", "text", "conversation", "parent",
    "author", "retry", "options", "run", "message", "memory", "epoch", "seq", "offset", "more",
]  # fmt: skip

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(),
    st.sampled_from(["one", "\ud800", "x" * 65, *TYPES]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=8,
)
objects = st.builds(
    lambda kind, rest: {**rest, **kind},
    st.one_of(st.just({}), st.sampled_from(TYPES).map(lambda kind: {"type": kind})),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=6),
)

ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
frames: st.SearchStrategy[AnyClientFrame] = st.one_of(
    st.builds(
        Hello,
        v=st.integers(0, 9),
        token=st.none() | texts,
        client=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
        resume=st.none() | st.builds(ResumePoint, names, st.integers(0, 2**53)),
        runs=st.lists(st.builds(RunPoint, ids, st.integers(0, 2**53)), max_size=64).map(tuple),
    ),
    st.builds(Auth, id=ids, token=texts),
    st.builds(Regenerate, id=ids, message=ids),
    st.builds(Edit, id=ids, message=ids, text=texts),
    st.builds(Attach, id=ids, run=ids, offset=st.integers(0, 2**53)),
    st.builds(
        Send,
        id=ids,
        text=texts,
        conversation=st.none() | ids,
        parent=st.none() | ids,
        author=st.none()
        | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80),
        retry=st.booleans(),
        options=st.builds(SendOptions, st.booleans()),
    ),
    st.builds(Stop, id=ids, run=ids),
    st.builds(Draft, text=texts, conversation=st.none() | ids),
    st.just(Ping()),
    st.just(Pong()),
)


def parsed_or_refused(text: str) -> None:
    """A frame, nothing, or the one error; and the error can be sent as it is."""
    try:
        frame = parse_frame(text)
    except BadFrame as error:
        assert error.code == "bad_frame"
        msgspec.json.encode([error.message, error.field, error.re])
        if error.re is not None:
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", error.re)
    else:
        assert frame is None or isinstance(frame, AnyClientFrame)
        msgspec.json.encode(frame)


@given(objects)
@example({"type": "send", "id": "one", "text": "\ud800"})
@example({"type": "hello", "v": 1e999})
def test_any_object_is_a_frame_nothing_or_a_bad_frame(content: dict[str, Any]) -> None:
    parsed_or_refused(json.dumps(content))


@given(values)
def test_any_json_is_a_frame_nothing_or_a_bad_frame(content: Any) -> None:
    parsed_or_refused(json.dumps(content))


@given(st.one_of(st.text(), st.binary().map(lambda some: some.decode("latin-1"))))
@example("\ud800")
@example('{"type":"send","id":"a","text":"\ud800"}')
@example("[" * 100_000)
@example('{"type":' * 100_000)
@example('{"type":"send","id":' + "[" * 100_000)
@example('{"type":"hello","type":"ping"}')
@example('{"type":"send","id":"a","text":"a"} x')
@example('{"type":"hello","v":1' + "0" * 5_000 + "}")
def test_any_text_is_a_frame_nothing_or_a_bad_frame(text: str) -> None:
    parsed_or_refused(text)


@given(frames, st.dictionaries(st.sampled_from(["more", "new_field"]), st.integers()))
def test_a_valid_frame_is_read_as_it_was_written_whatever_else_stands_in_it(
    frame: AnyClientFrame, more: dict[str, int]
) -> None:
    assert parse_frame(json.dumps({**msgspec.to_builtins(frame), **more})) == frame


@given(frames, st.data())
def test_half_a_frame_is_a_bad_frame(frame: AnyClientFrame, data: st.DataObject) -> None:
    text = msgspec.json.encode(frame).decode()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(BadFrame):
        parse_frame(text[:cut])


@pytest.mark.parametrize("kind", ["", "sends", "Send", "edited", "attached", "ClientFrame"])
def test_a_type_that_is_not_known_is_ignored(kind: str) -> None:
    assert parse_frame(json.dumps({"type": kind, "id": 5})) is None


@pytest.mark.parametrize(
    ("content", "field", "re"),
    [
        ({"id": "a"}, "type", None),
        ({"type": 5}, "type", None),
        ({"type": "send", "text": "a"}, "id", None),
        ({"type": "send", "id": "a b", "text": "a"}, "id", None),
        ({"type": "send", "id": "x" * 65, "text": "a"}, "id", None),
        ({"type": "send", "id": "a"}, "text", "a"),
        ({"type": "send", "id": "a", "text": None}, "text", "a"),
        ({"type": "send", "id": "a", "text": "b", "conversation": "c/d"}, "conversation", "a"),
        ({"type": "send", "id": "a", "text": "b", "author": ""}, "author", "a"),
        ({"type": "send", "id": "a", "text": "b", "author": "x" * 81}, "author", "a"),
        ({"type": "send", "id": "a", "text": "b", "retry": "yes"}, "retry", "a"),
        (
            {"type": "send", "id": "a", "text": "b", "options": {"memory": 1}},
            "options.memory",
            "a",
        ),
        ({"type": "hello"}, "v", None),
        ({"type": "hello", "v": "1"}, "v", None),
        ({"type": "hello", "v": 1, "resume": {"epoch": "a"}}, "resume.seq", None),
        ({"type": "hello", "v": 1, "runs": [{"run": "a", "offset": 1.5}]}, "runs[0].offset", None),
        ({"type": "stop", "id": "a"}, "run", "a"),
    ],
)
def test_a_wrong_field_is_named_with_the_frame_s_id(
    content: dict[str, Any], field: str, re: str | None
) -> None:
    with pytest.raises(BadFrame) as caught:
        parse_frame(json.dumps(content))
    assert (caught.value.field, caught.value.re) == (field, re)
    assert "`$" not in caught.value.message


@pytest.mark.parametrize("text", ["", "null", "[]", "5", '"send"', "hello", "{}", "NaN"])
def test_what_is_no_frame_at_all_is_a_bad_frame(text: str) -> None:
    with pytest.raises(BadFrame):
        parse_frame(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "empty_text"), (" \n\t\u2003", "empty_text"), ("é" * 6, "text_too_long")],
)
def test_an_empty_or_long_text_is_refused(text: str, code: str) -> None:
    with pytest.raises(ChatError) as refused:
        check_text(text, 11)
    assert (refused.value.code, refused.value.field) == (code, "text")


def test_a_text_is_measured_in_bytes() -> None:
    check_text("é" * 6, 12)
    check_text(" x ", 3)


@given(texts)
def test_every_text_that_a_frame_can_hold_can_be_measured(text: str) -> None:
    frame = parse_frame(json.dumps({"type": "draft", "text": text}))
    assert isinstance(frame, Draft)
    try:
        check_text(frame.text, 12)
    except ChatError as error:
        assert error.code in {"empty_text", "text_too_long"}
