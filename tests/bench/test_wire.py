from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from bench.wire import Figure, Plan, Report, text
from bench.wire_link import UPGRADE, Link, masked
from chat_server.frames import Frame

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


class Pipe(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data


@given(
    st.lists(st.binary(max_size=300) | st.integers(65_530, 70_000).map(bytes), max_size=6),
    st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
def test_frames_are_read_whole_however_they_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    heard: list[bytes] = []
    link = Link("", lambda _link: None, lambda _link, payload: heard.append(payload))
    link.connection_made(Pipe())
    stream = ACCEPTED + b"".join(Frame(payload).wire for payload in payloads)
    for cut in cuts:
        link.data_received(stream[:cut])
        stream = stream[cut:]
    link.data_received(stream)
    assert heard == payloads


def test_a_ping_is_answered_and_a_close_code_kept() -> None:
    pipe = Pipe()
    link = Link("", lambda _link: None, lambda _link, _payload: None)
    link.connection_made(pipe)
    link.data_received(ACCEPTED + Frame(b'{"type":"ping"}').wire + b"\x88\x02\x11\x38")
    assert pipe.written == UPGRADE + masked(b'{"type":"pong"}')
    assert link.close_code == 4408


def test_what_was_missed_is_named() -> None:
    figures = [
        Figure(name="fast", measured="1 ms", bare="2 ms", target="<= 1x", ok=True),
        Figure(name="large", measured="9 kB", target="<= 1 kB", ok=False),
        Figure(name="beside", measured="3"),
    ]
    report = Report(made_at="", circumstances={}, plan=Plan(), figures=figures, raw={})
    lines = text(report).splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["met", "MISSED", "3"]
