from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.event_log import KEEP_BYTES, KEEP_EVENTS, KEEP_S, EventLog
from chat_server.frames import placed


def filled(log: EventLog, count: int, size: int = 2) -> EventLog:
    for seq in range(log.seq + 1, log.seq + 1 + count):
        log.add(seq, placed(b"{" + b" " * size + b"}", seq))
    return log


@given(begin=st.integers(0, 50), count=st.integers(0, 40), asked=st.integers(0, 100))
def test_all_that_follows_a_place_is_given_or_nothing(begin: int, count: int, asked: int) -> None:
    found = filled(EventLog(begin), count).since(asked)
    if begin <= asked <= begin + count:
        assert found is not None
        assert len(found) == begin + count - asked
    else:
        assert found is None


def test_an_event_that_does_not_follow_is_refused() -> None:
    log = filled(EventLog(), 2)
    for seq in (2, 4):
        with pytest.raises(ValueError, match="does not follow"):
            log.add(seq, placed(b"{}", seq))


def test_events_are_bounded_in_number_bytes_and_age() -> None:
    many = filled(EventLog(), KEEP_EVENTS + 5)
    assert many.since(4) is None
    assert len(many.since(5) or ()) == KEEP_EVENTS
    large = filled(EventLog(), 100, size=KEEP_BYTES // 20)
    assert large.size_bytes <= KEEP_BYTES
    assert large.since(0) is None
    now = 0.0
    old = EventLog(clock=lambda: now)
    filled(old, 1)
    now = KEEP_S + 1
    assert old.since(0) is None
    assert old.since(1) == []
    assert old.seq == 1
