"""The protocol's page is held against the types, the table of errors and the routes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from chat_server import (
    command_rate,
    connections,
    errands,
    event_log,
    outbox,
    patient_http,
    request_body,
    speculation,
)
from chat_server.errors import ERRORS
from chat_server.events import DurableEvent, ServerEvent
from chat_server.http_operations import OPERATIONS
from chat_server.json_schemas import sent_fields, struct_types
from chat_server.protocol import HEARTBEAT_S, HELLO_WITHIN_S, ClientFrame, parse_frame
from chat_server.protocol_examples import EXAMPLES
from chat_server.protocol_spec import asyncapi
from chat_server.runs import MAX_WAITING
from chat_server.session import PONG_WITHIN_S
from chat_server.settings import Settings

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "protocol.md").read_text()
FRAMES = struct_types(ClientFrame)
EVENTS = struct_types(ServerEvent)
Kind = type[msgspec.Struct]


def section(heading: str) -> str:
    """What stands under *heading*, up to the next one."""
    found = re.search(
        rf"^(#+) {re.escape(heading)}$(.*?)(?=^#|\Z)", outside_code(), re.MULTILINE | re.DOTALL
    )
    assert found, f"there is no section {heading}"
    return found.group(2)


def outside_code() -> str:
    """The page without blocks of code but those of JSON: their lines may look like headings."""
    lines, fence = [], ""
    for line in PAGE.splitlines(keepends=True):
        if line.startswith("```"):
            fence = "" if fence else line.strip()
        elif fence and fence != "```json":
            continue
        lines.append(line)
    return "".join(lines)


def rows(heading: str) -> dict[str, tuple[str, ...]]:
    """The table of a section, by its first column."""
    found: dict[str, tuple[str, ...]] = {}
    _, _, table = section(heading).partition("\n|---")
    for line in table.splitlines()[1:]:
        if line.startswith("|"):
            first, *others = (cell.strip() for cell in line.split("|")[1:-1])
            plain = re.fullmatch(r"`([^`]+)`", first)
            found[plain.group(1) if plain else first] = tuple(others)
    return found


def tag(kind: Kind) -> str:
    return str(kind.__struct_config__.tag)


def parts_of(kind: object) -> Iterator[Kind]:
    """The types of objects that stand in the fields of *kind*, however deep."""
    waiting: list[Any] = [inspect.type_info(kind)]
    seen = set()
    while waiting:
        info = waiting.pop()
        if isinstance(info, inspect.StructType):
            if info.cls in seen:
                continue
            seen.add(info.cls)
            waiting += [field.type for field in info.fields]
        elif isinstance(info, inspect.UnionType):
            waiting += info.types
        elif isinstance(info, inspect.VarTupleType | inspect.ListType):
            waiting.append(info.item_type)
    yield from seen - {kind}


OBJECTS = sorted(
    {part for kind in (*FRAMES, *EVENTS) for part in parts_of(kind)}, key=lambda kind: kind.__name__
)


def check_fields(kind: Kind, table: dict[str, tuple[str, ...]]) -> None:
    """Each field has its row, and only the ones that may be missing are called optional."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    assert set(table) == set(fields)
    for name, field in fields.items():
        has_place = issubclass(kind, DurableEvent) and name == "seq"
        optional = not field.required and not has_place
        assert ("optional" in table[name][0]) == optional, (kind.__name__, name)
        assert table[name][1], (kind.__name__, name)


@pytest.mark.parametrize("kind", [*FRAMES, *EVENTS], ids=lambda kind: kind.__name__)
def test_every_frame_and_event_has_its_section_with_every_field_and_its_example(
    kind: type[ClientFrame | ServerEvent],
) -> None:
    if kind.__struct_fields__:
        check_fields(kind, rows(tag(kind)))
    (example, *_) = re.findall(
        r"^```json\n(.*?)\n```$", section(tag(kind)), re.MULTILINE | re.DOTALL
    )
    assert msgspec.json.decode(example) == sent_fields(EXAMPLES[kind])


def test_every_example_on_the_page_can_be_read() -> None:
    known = {tag(kind): kind for kind in EVENTS}
    for example in re.findall(r"^```json\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL):
        said = msgspec.json.decode(example)["type"]
        if said in {tag(kind) for kind in FRAMES} and parse_frame(example) is not None:
            continue
        msgspec.json.decode(example, type=known[said])


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.__name__)
def test_every_object_in_a_field_has_its_section_with_every_field(kind: Kind) -> None:
    check_fields(kind, rows(kind.__name__))


def test_no_section_tells_of_what_there_is_not() -> None:
    told = set(re.findall(r"^### (.+)$", PAGE.split("\n## Errors")[0], re.MULTILINE))
    known = {tag(kind) for kind in (*FRAMES, *EVENTS)} | {kind.__name__ for kind in OBJECTS}
    assert told - known <= {"Coming back"}


def test_every_error_code_has_its_row_with_what_follows_from_it() -> None:
    table = rows("Errors")
    assert set(table) == set(ERRORS)
    for code, kind in ERRORS.items():
        retryable, status, close, when = table[code]
        assert retryable == ("yes" if kind.retryable else "no"), code
        assert status == str(kind.status), code
        assert close.partition(",")[0] == (str(kind.close) if kind.close else ""), code
        assert when, code


def test_every_close_code_has_its_row_and_says_whether_to_come_back() -> None:
    document: Any = asyncapi()
    closes = document["x-close-codes"]
    table = rows("Close codes")
    assert set(table) == set(closes)
    for code, facts in closes.items():
        reason, then = table[code]
        if "error" in facts:
            assert reason == f"`{facts['error']}`"
        assert ("reconnect" in then) == facts["reconnect"]


def test_every_route_has_its_row_with_its_parameters() -> None:
    told = {
        (method, path, tuple(re.findall(r"(\w+)=", query)))
        for method, path, query in re.findall(
            r"^\| `([A-Z]+) ([^ ?`]+)(\?[^`]*)?` \|", section("HTTP"), re.MULTILINE
        )
    }
    known = {
        (
            operation.method,
            re.sub(r"{\w+}", "{id}", operation.path),
            tuple(parameter.name for parameter in operation.parameters),
        )
        for operation in OPERATIONS
    }
    assert told == known


def test_every_link_within_the_page_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", outside_code(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert len(anchors) == len(headings)
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors


def test_limits_are_the_ones_that_hold() -> None:
    server, limits = Settings().server, Settings().limits
    table = rows("Limits and sizes")
    known: dict[str, list[float]] = {
        "time until `hello`": [HELLO_WITHIN_S],
        "a frame of yours": [server.max_frame_bytes],
        "a text": [server.max_text_bytes],
        "messages of a user, of all users": [limits.per_user, limits.global_, limits.window_s],
        "frames on a connection": [command_rate.BURST, command_rate.PER_S],
        "drafts on a connection": [speculation.DRAFTS_PER_S],
        "messages on a connection that wait for the one before": [errands.SENDS_WAITING],
        "replies that wait in a conversation": [MAX_WAITING],
        "connections of a user, to one process": [connections.MOST_PER_USER],
        "connections to one process": [connections.MOST],
        "silence": [HEARTBEAT_S, PONG_WITHIN_S],
        "what waits for you to read it": [outbox.MAX_BYTES],
        "lasting events that are kept": [
            event_log.KEEP_S / 60,
            event_log.KEEP_EVENTS,
            event_log.KEEP_BYTES,
        ],
        "the head of a request, also for the upgrade": [
            patient_http.MAX_HEAD_BYTES,
            patient_http.HEAD_WITHIN_S,
        ],
        "a JSON body": [request_body.MAX_BODY_BYTES, request_body.BODY_WITHIN_S],
    }
    for what, numbers in known.items():
        said = " ".join(table[what])
        for number in numbers:
            assert re.search(rf"(?<![\d,]){number:,.0f}(?![\d,])", said), (what, number)
