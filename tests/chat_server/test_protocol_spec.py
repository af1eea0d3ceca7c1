"""The AsyncAPI document is whole, keeps AsyncAPI's rules, and is the one that is checked in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.errors import ERRORS
from chat_server.events import ServerEvent
from chat_server.json_schemas import sent_fields, struct_types
from chat_server.protocol import AnyClientFrame, BadFrame, ClientFrame, parse_frame
from chat_server.protocol_examples import EXAMPLES
from chat_server.protocol_spec import ANSWERS, asyncapi_json

CHECKED_IN = Path(__file__).resolve().parents[2] / "docs" / "asyncapi.json"
FRAMES = struct_types(ClientFrame)
EVENTS = struct_types(ServerEvent)
DOCUMENT: Any = msgspec.json.decode(asyncapi_json())

ROOT_FIELDS = {
    "asyncapi",
    "id",
    "info",
    "servers",
    "defaultContentType",
    "channels",
    "operations",
    "components",
}
CHANNEL_FIELDS = {
    "address",
    "messages",
    "title",
    "summary",
    "description",
    "servers",
    "parameters",
    "tags",
    "externalDocs",
    "bindings",
}
OPERATION_FIELDS = {
    "action",
    "channel",
    "title",
    "summary",
    "description",
    "security",
    "tags",
    "externalDocs",
    "bindings",
    "traits",
    "messages",
    "reply",
}
MESSAGE_FIELDS = {
    "headers",
    "payload",
    "correlationId",
    "contentType",
    "name",
    "title",
    "summary",
    "description",
    "tags",
    "externalDocs",
    "bindings",
    "examples",
    "traits",
}
KEY = re.compile(r"^[\w.\-]+$")


def resolved(reference: str) -> Any:
    found = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def test_the_document_that_is_checked_in_is_current() -> None:
    assert CHECKED_IN.read_bytes() == asyncapi_json(), (
        "python -m chat_server spec > docs/asyncapi.json"
    )


def test_every_frame_and_every_event_is_in_it() -> None:
    assert set(FRAMES) == set(AnyClientFrame.__args__)
    (channel,) = DOCUMENT["channels"].values()
    names = {kind.__name__ for kind in (*FRAMES, *EVENTS)}
    assert set(channel["messages"]) == set(DOCUMENT["components"]["messages"]) == names
    received = {
        reference["$ref"].rpartition("/")[2]
        for operation in DOCUMENT["operations"].values()
        if operation["action"] == "receive"
        for reference in operation["messages"]
    }
    sent = {
        reference["$ref"].rpartition("/")[2]
        for operation in DOCUMENT["operations"].values()
        if operation["action"] == "send"
        for reference in operation["messages"]
    }
    assert received == {kind.__name__ for kind in FRAMES}
    assert sent == {kind.__name__ for kind in EVENTS}


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        assert isinstance(resolved(reference), dict)


def test_it_has_the_parts_that_asyncapi_allows_and_demands() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    extensions = {name for name in DOCUMENT if name.startswith("x-")}
    assert set(DOCUMENT) - extensions <= ROOT_FIELDS
    for server in DOCUMENT["servers"].values():
        assert {"host", "protocol"} <= set(server)
    for channel in DOCUMENT["channels"].values():
        assert set(channel) <= CHANNEL_FIELDS
        for message in channel["messages"].values():
            assert set(message) == {"$ref"}
    for operation in DOCUMENT["operations"].values():
        assert set(operation) <= OPERATION_FIELDS
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].startswith("#/channels/")
    for message in DOCUMENT["components"]["messages"].values():
        assert set(message) <= MESSAGE_FIELDS
    for names in ("channels", "operations"):
        assert all(KEY.match(name) for name in DOCUMENT[names])
    for components in DOCUMENT["components"].values():
        assert all(KEY.match(name) for name in components)


def test_operations_name_messages_of_their_channel_and_not_the_components() -> None:
    for operation in DOCUMENT["operations"].values():
        answers = operation.get("reply", {}).get("messages", [])
        for reference in (*operation["messages"], *answers):
            assert reference["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")


@pytest.mark.parametrize("kind", [*FRAMES, *EVENTS], ids=lambda kind: kind.__name__)
def test_every_message_has_an_example_that_its_schema_allows(
    kind: type[ClientFrame | ServerEvent],
) -> None:
    message = DOCUMENT["components"]["messages"][kind.__name__]
    assert message["name"] == kind.__struct_config__.tag
    assert message["summary"]
    schema = message["payload"] | {"components": DOCUMENT["components"]}
    validator = jsonschema.Draft7Validator(schema)
    assert message["examples"]
    for example in message["examples"]:
        validator.validate(example["payload"])
        for field in example["payload"]:
            without = {name: said for name, said in example["payload"].items() if name != field}
            required = field in resolved(message["payload"]["$ref"])["required"]
            assert validator.is_valid(without) != required, field


def test_every_schema_is_one() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)


def test_every_code_is_in_it_with_what_follows_from_it() -> None:
    codes = DOCUMENT["x-error-codes"]
    assert set(codes) == set(ERRORS)
    closes = DOCUMENT["x-close-codes"]
    for code, kind in ERRORS.items():
        assert codes[code]["retryable"] is kind.retryable
        assert codes[code]["status"] == kind.status
        assert codes[code].get("close") == kind.close
        if kind.close is not None:
            assert closes[str(kind.close)] == {"error": code, "reconnect": kind.close < 4500}


def test_a_command_that_has_an_id_is_answered() -> None:
    for kind in FRAMES:
        assert ("id" in kind.__struct_fields__) <= (kind in ANSWERS)


# Without what JSON Schema's readers differ in: 1.0 as an integer, and `$` before a line break.
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([0.5, 2**53, 2**53 + 1, "", "a", "../x", "x" * 64, "x" * 65, "é" * 81]),
        st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["run", "offset", "epoch", "seq", "memory"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
VALIDATORS = {
    kind: jsonschema.Draft7Validator(
        {
            "$ref": f"#/components/schemas/{kind.__name__}",
            "components": DOCUMENT["components"],
        }
    )
    for kind in FRAMES
}


@settings(deadline=None, max_examples=300)
@given(kind=st.sampled_from(FRAMES), data=st.data())
def test_the_document_allows_what_the_server_reads_and_nothing_else(
    kind: type[ClientFrame], data: st.DataObject
) -> None:
    frame = sent_fields(EXAMPLES[kind])
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    if names:
        for name in data.draw(st.sets(st.sampled_from(names))):
            frame[name] = data.draw(json_values)
        for name in data.draw(st.sets(st.sampled_from(names))):
            frame.pop(name, None)
    try:
        read = parse_frame(msgspec.json.encode(frame).decode()) is not None
    except BadFrame:
        read = False
    assert VALIDATORS[kind].is_valid(frame) == read
