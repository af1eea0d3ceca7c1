from __future__ import annotations

import pytest

from memory import window_trust
from memory.messages import ConversationId, UserId
from memory.window_trust import WindowKey, WindowTrust


def key(number: int) -> WindowKey:
    return UserId("ana"), ConversationId(f"c{number}")


def test_a_window_that_this_process_never_wrote_is_not_trusted() -> None:
    trust = WindowTrust()
    assert not trust.trusts(key(1))
    trust.trust(key(1))
    assert trust.trusts(key(1))
    assert not trust.trusts((UserId("ben"), key(1)[1]))


def test_a_doubted_window_is_listed_until_it_is_dropped_or_written_anew() -> None:
    trust = WindowTrust()
    for number in (1, 2):
        trust.trust(key(number))
        trust.doubt(key(number))
    assert not trust.trusts(key(1))
    assert trust.doubted() == [key(1), key(2)]
    trust.dropped(key(1))
    trust.trust(key(2))
    assert trust.doubted() == []
    assert not trust.trusts(key(1)), "what is gone is not whole"
    assert trust.trusts(key(2))


def test_both_lists_are_bounded_and_forgetting_never_trusts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(window_trust, "MAX_TRUSTED", 2)
    monkeypatch.setattr(window_trust, "MAX_DOUBTED", 2)
    trust = WindowTrust()
    for number in range(4):
        trust.trust(key(number))
    assert [trust.trusts(key(number)) for number in range(4)] == [False, False, True, True]
    for number in range(4):
        trust.doubt(key(number))
    assert trust.doubted() == [key(0), key(1)]
    assert not any(trust.trusts(key(number)) for number in range(4))
