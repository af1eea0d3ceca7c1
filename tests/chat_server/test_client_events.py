"""The client's reading of the protocol is held against what the server writes."""

from __future__ import annotations

import msgspec
import pytest

from chat_server import client_events, client_values, events, memory_events, protocol
from chat_server.client_events import RunDelta, RunDone, Unknown, Welcome, decode_event
from chat_server.frames import frame_of
from memory.messages import RunId
from memory.recalled import Recalled


def by_tag(kind: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """All kinds of *kind* that have a name of their own, also below ``DurableEvent``."""
    found: dict[str, type[msgspec.Struct]] = {}
    for sub in kind.__subclasses__():
        if sub.__name__ == "DurableEvent":
            found |= by_tag(sub)
        elif sub.__name__ != "Unknown":
            found[str(sub.__struct_config__.tag)] = sub
    return found


READ = by_tag(client_events.Event)
WRITTEN = by_tag(events.ServerEvent)


def test_versions_agree() -> None:
    assert client_events.VERSION == protocol.VERSION
    assert client_events.SUBPROTOCOL == protocol.SUBPROTOCOL


def test_every_event_of_the_server_is_known_but_the_answer_to_a_ping_that_is_never_sent() -> None:
    assert set(WRITTEN) - set(READ) == {"pong"}
    assert set(READ) <= set(WRITTEN)


def fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


PAIRS = [
    *((READ[tag], WRITTEN[tag]) for tag in sorted(READ)),
    (client_events.ConversationGone, events.ConversationGone),
    (client_events.MemoryState, memory_events.MemoryState),
    (client_values.Message, events.WireMessage),
    (client_values.Conversation, events.WireConversation),
    (client_values.ErrorFacts, events.ErrorFacts),
    (client_values.Usage, events.Usage),
    (client_values.Memory, Recalled),
]


@pytest.mark.parametrize(("read", "written"), PAIRS, ids=lambda kind: kind.__name__)
def test_whatever_is_read_is_written_under_the_same_name(
    read: type[msgspec.Struct], written: type[msgspec.Struct]
) -> None:
    known, sent = fields(read), fields(written)
    assert set(known) <= set(sent)
    for name, field in known.items():
        if field.required:
            assert sent[name].required, f"{name} may be absent"


def test_unknown_types_fields_codes_and_statuses_are_no_errors() -> None:
    assert decode_event('{"type": "confetti", "colour": "red"}') == Unknown()
    welcome = decode_event('{"type": "welcome", "v": 1, "user": "ana", "mood": "fine"}')
    assert welcome == Welcome(user="ana")
    error = decode_event('{"type": "error", "code": "moon_phase", "message": "wait"}')
    assert isinstance(error, client_events.Refused)
    done = decode_event(
        '{"type": "run.done", "run": "r", "conversation": "c", "status": "paused", "chars": 0,'
        ' "sha256": "", "message": {"id": "r", "role": "oracle", "text": "", "timestamp": 1}}'
    )
    assert isinstance(done, RunDone)
    assert done.status == "paused"


def test_the_place_of_what_cannot_be_read_is_read() -> None:
    assert decode_event('{"type": "confetti", "seq": 7}') == Unknown(seq=7)
    assert decode_event('{"type": "message.created", "seq": 8, "message": 5}') == Unknown(seq=8)


@pytest.mark.parametrize("frame", ["", "[]", "{}", '{"type": 1}', '{"type": "run.delta"}', "nul"])
def test_what_is_no_event_is_an_error(frame: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_event(frame)


def test_an_event_of_the_server_is_read_back() -> None:
    sent = events.RunDelta(run=RunId("r"), offset=3, text="ä")
    assert decode_event(frame_of(sent).payload.decode()) == RunDelta(run="r", offset=3, text="ä")
