from __future__ import annotations

from memory.hot_copy import HotCopy
from memory.hot_entries import IDLE_S, USER_SHARE, HotEntries, HotLimits
from memory.messages import UserId
from tests.memory.hot_world import ADA, BEN, VECTOR, Clock, said


def test_what_leaves_is_handed_over_the_least_recently_used_first() -> None:
    left: list[UserId] = []
    clock = Clock()
    limits = HotLimits(messages=10, size_bytes=1_000_000)
    entries = HotEntries(limits, clock, lambda user, _copy: left.append(user))
    for user in (ADA, BEN):
        entry = entries.use(user)
        entry.copy = HotCopy(limits.empty(), None)
        entry.copy.memory.add(said(0, user), VECTOR)
        entries.fit(entry)
    assert entries.size_bytes > 0
    entries.use(ADA)
    clock.now += IDLE_S + 1
    entries.evict_idle()
    assert left == [BEN, ADA]
    assert (len(entries), entries.size_bytes, entries.evictions) == (0, 0, 2)


def test_one_user_may_have_a_share_and_the_older_messages_too() -> None:
    limits = HotLimits(messages=1, size_bytes=10_000 * USER_SHARE, deep_messages=500)
    memory = limits.empty()
    for number in range(500):
        memory.add(said(number), VECTOR)
        assert memory.size_bytes <= 10_000
    assert len(memory) > 10
