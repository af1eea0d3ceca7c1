from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat_server.server_sent_events import MAX_EVENT_BYTES, EventReader, EventTooLong

STREAM = (
    b"\xef\xbb\xbfdata: one\n\n"
    b": a comment\r\n\r\n"
    b"event: error\r\nid: 7\r\ndata: two\r\ndata:three\r\n\r\n"
    b"data:  four \r\r"
    b"data\n\n"
    b"data: unfinished\n"
)
EVENTS = [b"one", b"two\nthree", b" four "]


def test_data_is_read_whatever_ends_the_lines() -> None:
    assert EventReader().feed(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
@example(cuts=[60, 60])  # an empty chunk between the halves of a line break
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    reader = EventReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    events = [
        event
        for start, end in itertools.pairwise(edges)
        for event in reader.feed(STREAM[start:end])
    ]
    assert events == EVENTS


@pytest.mark.parametrize("line", [b"x", b"data: x\n"])
def test_an_event_without_end_is_refused(line: bytes) -> None:
    reader = EventReader()
    with pytest.raises(EventTooLong):
        for _ in range(MAX_EVENT_BYTES + 2):
            reader.feed(line * 64)
