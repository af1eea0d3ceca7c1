from __future__ import annotations

import hashlib

import msgspec
import pytest

from chat_server.events import RunDone, ServerEvent
from chat_server.json_schemas import sent_fields, struct_types
from chat_server.protocol import ClientFrame, parse_frame
from chat_server.protocol_examples import EXAMPLES

FRAMES = struct_types(ClientFrame)
EVENTS = struct_types(ServerEvent)


def test_everything_that_is_sent_has_an_example() -> None:
    assert set(EXAMPLES) == {*FRAMES, *EVENTS}


@pytest.mark.parametrize("kind", FRAMES, ids=lambda kind: kind.__name__)
def test_the_server_reads_each_example_of_a_frame(kind: type[ClientFrame]) -> None:
    text = msgspec.json.encode(sent_fields(EXAMPLES[kind])).decode()
    assert parse_frame(text) == EXAMPLES[kind]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_each_example_of_an_event_is_what_the_server_would_send(kind: type[ServerEvent]) -> None:
    sent = msgspec.json.encode(EXAMPLES[kind])
    assert msgspec.json.decode(sent) == sent_fields(EXAMPLES[kind])
    assert msgspec.json.decode(sent, type=kind) == EXAMPLES[kind]


def test_the_digest_of_the_example_is_that_of_its_text() -> None:
    done = EXAMPLES[RunDone]
    assert isinstance(done, RunDone)
    assert done.chars == len(done.message.text)
    assert done.sha256 == hashlib.sha256(done.message.text.encode()).hexdigest()
