from __future__ import annotations

from chat_server.seen_ids import SEEN_IDS, SeenIds
from memory.messages import UserId


def test_ids_of_late_are_known_and_bounded() -> None:
    seen, ann = SeenIds(), UserId("ann")
    assert not seen.note(ann, "x")
    assert seen.note(ann, "x")
    assert not seen.note(UserId("bob"), "x")
    for number in range(SEEN_IDS):
        seen.note(ann, str(number))
    assert not seen.note(UserId("bob"), "x")
