from __future__ import annotations

import msgspec

from chat_server.letters import Answered, AnyWriting, Asked, Counted, LiveDelta, read, written
from memory.live.broker import NodeId
from memory.messages import RunId, UserId


def test_a_letter_is_read_as_it_was_written() -> None:
    bodies: list[AnyWriting] = [
        Counted(sent={NodeId("1-a"): 3}, to_all=2, unsure=True),
        LiveDelta(user=UserId("ann"), run=RunId("r1"), offset=4, text="ä👍"),
        Asked(number=1, user=UserId("ann"), name=None, expires_at=9, frame=b'{"type":"stop"}'),
        Answered(number=1, last=True, code="busy", message="wait", retry_after_ms=5),
    ]
    for body in bodies:
        assert read(written(body)) == body


def test_what_is_no_letter_of_this_version_says_nothing() -> None:
    for body in (b"", b"\xc1", msgspec.msgpack.encode(["Unheard", 1]), msgspec.msgpack.encode(7)):
        assert read(body) is None
