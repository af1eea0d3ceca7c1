from __future__ import annotations

import msgspec

from chat_server.frames import frame_of, placed
from chat_server.memory_events import MemoryForgotten, MemoryState, MemoryUpdated
from memory.messages import MessageId


def test_events_of_memories_have_a_place_and_say_which() -> None:
    for kind, name, forgotten in (
        (MemoryForgotten, "memory.forgotten", True),
        (MemoryUpdated, "memory.updated", False),
    ):
        event = kind(memory=MemoryState(id=MessageId("m1"), forgotten=forgotten))
        frame = placed(frame_of(event).payload, 7)
        assert msgspec.json.decode(frame.payload) == {
            "type": name,
            "seq": 7,
            "memory": {"id": "m1", "forgotten": forgotten},
        }
