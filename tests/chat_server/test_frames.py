from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from chat_server.events import Ok, RunDelta, RunMemories
from chat_server.frames import Frame, frame_of, placed
from memory.messages import RunId


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_frame_is_one_that_a_client_reads(size: int) -> None:
    payload = b"x" * size
    from_wire = list(frames_in(Frame(payload).wire))
    assert [(frame.opcode, bytes(frame.data)) for frame in from_wire] == [(Opcode.TEXT, payload)]
    assert len(Frame(payload)) == size


def frames_in(wire: bytes) -> list[WireFrame]:
    """What websockets' own parser reads, as a client: unmasked."""
    reader = StreamReader()
    reader.feed_data(wire)
    parsing = WireFrame.parse(reader.read_exact, mask=False, max_size=None)
    try:
        next(parsing)
    except StopIteration as done:
        return [done.value]
    raise AssertionError("the frame is not whole")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 2**53))
def test_a_place_is_put_into_what_was_encoded_before(text: str, seq: int) -> None:
    payload = frame_of(Ok(re=text)).payload
    assert msgspec.json.decode(placed(payload, seq).payload) == {
        "type": "ok",
        "re": text,
        "seq": seq,
    }


def test_pieces_can_be_merged_and_what_is_told_again_can_be_spared() -> None:
    delta = RunDelta(run=RunId("r"), offset=0, text="a")
    memories = RunMemories(run=RunId("r"), items=(), plan="none", reason="greeting", took_ms=0)
    assert frame_of(delta).delta is delta
    assert frame_of(delta).ephemeral
    assert frame_of(memories).ephemeral
    assert not frame_of(Ok(re="1")).ephemeral
    frame = frame_of(delta)
    assert frame.wire is frame.wire
