"""The bytes of a WebSocket are cut into its frames, however they come."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from chat_server.events import Ok
from chat_server.frames import frame_of, placed
from tests.chaos.wire_frames import FrameCutter, Piece

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"


def client_frame(text: str) -> bytes:
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=True)


def all_pieces(data: bytes, cuts: list[int]) -> list[Piece]:
    cutter, begin = FrameCutter(), 0
    pieces: list[Piece] = []
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        pieces += cutter.feed(data[begin:end])
        begin = end
    return pieces


@given(
    texts=st.lists(st.text(max_size=40) | st.integers(120, 70_000).map("x".__mul__), max_size=4),
    cuts=st.lists(st.integers(0, 100_000), max_size=8),
    masked=st.booleans(),
)
def test_frames_come_out_whole_wherever_the_bytes_were_cut(
    texts: list[str], cuts: list[int], *, masked: bool
) -> None:
    frames = [json.dumps({"type": "send", "text": text}) for text in texts]
    sent = [Frame(Opcode.TEXT, text.encode()).serialize(mask=masked) for text in frames]
    pieces = all_pieces(HEAD + b"".join(sent), cuts)
    assert pieces == [Piece("handshake", HEAD), *(Piece("send", data) for data in sent)]


def test_what_the_server_writes_is_known_by_its_type() -> None:
    event = frame_of(Ok(re="1"))
    written = event.wire + placed(event.payload, 7).wire
    kinds = [piece.kind for piece in all_pieces(HEAD + written, [])]
    assert kinds == ["handshake", "ok", "ok"]


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [(Opcode.CLOSE, "close"), (Opcode.PING, "ws-ping"), (Opcode.BINARY, "binary")],
)
def test_other_frames_are_called_what_they_are(opcode: Opcode, kind: str) -> None:
    data = Frame(opcode, b"\x03\xe8").serialize(mask=True)
    assert all_pieces(HEAD + data, [])[1:] == [Piece(kind, data)]


def test_a_refused_upgrade_is_passed_as_it_comes() -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    pieces = all_pieces(head + b"go away", [len(head) + 3])
    assert pieces == [Piece("handshake", head), Piece("raw", b"go "), Piece("raw", b"away")]


def test_a_client_s_frame_is_read_behind_its_mask() -> None:
    data = client_frame('{"type": "attach", "id": "a"}')
    head = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"
    assert all_pieces(head + data, [])[1] == Piece("attach", data)


def test_a_request_that_asks_for_no_upgrade_is_passed_as_it_comes() -> None:
    head = b"GET /api/search HTTP/1.1\r\nHost: x\r\n\r\n"
    assert all_pieces(head + head, []) == [Piece("handshake", head), Piece("raw", head)]
