"""Bytes that no client should send, against a real server: always an error or a close code, never a
traceback, never growth, and somebody else is served all the while.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_server.errors import ERRORS
from chat_server.json_schemas import sent_fields, struct_types
from chat_server.protocol import BadFrame, ClientFrame, Hello, parse_frame
from chat_server.protocol_examples import EXAMPLES
from tests.integration.raw_socket import (
    ASK,
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RawSocket,
    json_frame,
    raw_socket,
    ws_frame,
)
from tests.integration.raw_world import RawWorld, is_pong, raw_world

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]

CLOSE_CODES = {1000, 1002, 1005, 1007, 1009} | {kind.close for kind in ERRORS.values()}
GROWTH_BYTES = 4_000_000
BAD_CONNECTIONS = 2_000
ALIVE = json.dumps({"type": "ping"})

marks = count()
"""Commands that are answered at once, for a run that there is not, say how far the server is."""

fuzzed = settings(
    deadline=None,
    max_examples=100,
    # What is kept between examples is a server that must bear all of them.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def one_world(
    tmp_path_factory: pytest.TempPathFactory, prepared_model_folder: Any
) -> Iterator[RawWorld]:
    with raw_world(tmp_path_factory.mktemp("raw") / "data", prepared_model_folder) as world:
        yield world


@pytest.fixture
def world(one_world: RawWorld) -> Iterator[RawWorld]:
    """The server; after each test its log is clean, and somebody else was served meanwhile."""
    yield one_world
    one_world.check()


def halves(text: str | bytes) -> tuple[bytes, bytes]:
    whole = text.encode() if isinstance(text, str) else text
    return whole[: len(whole) // 2], whole[len(whole) // 2 :]


def told(world: RawWorld, *parts: bytes, user: int = 0) -> tuple[list[str], int | None]:
    """The errors and the close code that a connection gets for *parts*, after hello; it is the
    server that ends it.
    """
    with world.connected(user) as raw:
        raw.send(*parts)
        answer = raw.answer()
        return answer.errors, answer.close


BREACHES: dict[str, tuple[bytes, int]] = {
    "bad UTF-8": (ws_frame(b"\xff\xfe"), 1007),
    "an overlong form": (ws_frame(b'"\xc0\xaf"'), 1007),
    "a surrogate in UTF-8": (ws_frame(b'"\xed\xa0\x80"'), 1007),
    "a character cut off": (ws_frame(b'"\xe2\x82'), 1007),
    "bad UTF-8 over two fragments": (ws_frame(b"\xc3", fin=False) + ws_frame(b"(", CONT), 1007),
    "a continuation of nothing": (ws_frame("x", CONT), 1002),
    "a message within a message": (ws_frame("{", fin=False) + ws_frame(ALIVE), 1002),
    "not masked": (ws_frame(ALIVE, mask=False), 1002),
    "a long control frame": (ws_frame(b"x" * 126, PING), 1002),
    "a control frame in fragments": (ws_frame(b"x", PING, fin=False), 1002),
    "too large": (ws_frame(b" " * 65_537), 1009),
    "too large in fragments": (
        ws_frame(b" " * 40_000, fin=False) + ws_frame(b" " * 40_000, CONT),
        1009,
    ),
    "a length of 63 bits": (ws_frame(b"x", size=2**63 - 1), 1009),
    "a length of 64 bits": (ws_frame(b"x", size=2**64 - 1), 1009),
    "a close code cut off": (ws_frame(b"\x03", CLOSE), 1002),
    "a close code that is none": (ws_frame(b"\x03\xe7", CLOSE), 1002),
    "a close code that is never sent": (ws_frame(b"\x03\xed", CLOSE), 1002),
    "a close reason in bad UTF-8": (ws_frame(b"\x03\xe8\xff", CLOSE), 1007),
    "a close within a message": (ws_frame("{", fin=False) + ws_frame(b"\x03\xe8", CLOSE), 1002),
    "an orderly close": (ws_frame(b"\x03\xe8bye", CLOSE), 1000),
    "a close without a code": (ws_frame(b"", CLOSE), 1005),
    **{f"reserved bits {bits:03b}": (ws_frame(ALIVE, reserved=bits), 1002) for bits in range(1, 8)},
    **{
        f"reserved opcode {code:x}": (ws_frame("x", code), 1002)
        for code in (0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF)
    },
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_of_the_rfc_is_closed_with_its_code(world: RawWorld, name: str) -> None:
    parts, close = BREACHES[name]
    assert told(world, parts) == ([], close)
    with raw_socket(world.url) as before_hello:
        before_hello.upgrade()
        before_hello.send(parts)
        assert before_hello.answer().close == close


def request(
    path: bytes = b"/ws",
    version: bytes = b"13",
    key: bytes = b"AAAAAAAAAAAAAAAAAAAAAA==",
    more: bytes = b"",
) -> bytes:
    """An opening handshake."""
    return (
        b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: " + version + b"\r\nSec-WebSocket-Key: " + key + b"\r\n"
        + more + b"\r\n"
    )  # fmt: skip


HANDSHAKES: dict[str, tuple[bytes, set[int]]] = {
    "another version": (request(version=b"12"), {400, 426}),
    "a version of 5,000 digits": (request(version=b"9" * 5_000), {400, 426}),
    "a short key": (request(key=b"x"), {400}),
    "two keys": (request(more=b"Sec-WebSocket-Key: AAAA\r\n"), {400}),
    "POST": (request().replace(b"GET", b"POST"), {400, 405}),
    "bytes in the path": (request(path=b"/ws?\xff"), {400}),
    "a zero in the path": (request(path=b"/ws\x00"), {400}),
    "another path": (request(path=b"/nowhere"), {403, 404}),
    "a path that is no UTF-8": (request(path=b"/ws%ff%00"), {403, 404}),
    "an origin that is none": (request(more=b"Origin: http://[::1\r\n"), {403}),
    "an origin with an impossible port": (request(more=b"Origin: http://x:99999999\r\n"), {403}),
    "an origin in bytes": (request(more=b"Origin: \xff\r\n"), {403}),
    "a subprotocol in bytes": (request(more=b"Sec-WebSocket-Protocol: \xff\r\n"), {400}),
    "300 headers": (request(more=b"X-Y: z\r\n" * 300), {0, 400, 431}),
    "a header of 20,000 bytes": (request(more=b"X-Y: " + b"z" * 20_000 + b"\r\n"), {0, 400, 431}),
    "a path of 20,000 bytes": (request(path=b"/ws?" + b"z" * 20_000), {0, 400, 414}),
    "a body": (request(more=b"Content-Length: 5\r\n") + b"hello", {0, 400}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "a frame and no handshake": (ASK, {400}),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_that_is_none_is_answered_with_a_status_or_the_end(
    world: RawWorld, name: str
) -> None:
    sent, statuses = HANDSHAKES[name]
    with raw_socket(world.url) as raw:
        raw.send(sent)
        raw.half_close()
        head = raw.head()
        assert (int(head.split()[1]) if head else 0) in statuses


def test_headers_that_mean_nothing_do_no_harm(world: RawWorld) -> None:
    odd = b'Cookie: tandem_session=\xff;;=;\r\nX-Y: \xff\r\nSec-WebSocket-Extensions: x; a="\r\n'
    with raw_socket(world.url) as raw:
        raw.send(request(more=odd))
        assert raw.head().startswith(b"HTTP/1.1 101 ")
        raw.send(json_frame(type="hello", v=1, token=world.tokens[0]))
        raw.send(json_frame(type="ping"))
        assert raw.answer(is_pong).alive


def test_fragments_and_control_frames_between_them_are_one_message(world: RawWorld) -> None:
    first, second = halves(ALIVE)
    with world.connected() as raw:
        raw.send(ws_frame(first, fin=False), ws_frame(b"still there?", PING))
        raw.send(ws_frame(b"", CONT, fin=False), ws_frame(b"", PONG), ws_frame(second, CONT))
        assert raw.frame() == (PONG, b"still there?")
        assert raw.answer(is_pong).alive
        unknown = json.dumps({"type": "🦊"}, ensure_ascii=False).encode()
        cut = unknown.index("🦊".encode()) + 2  # in the middle of a character
        raw.send(ws_frame(unknown[:cut], fin=False), ws_frame(unknown[cut:], CONT), ASK)
        assert raw.answer(is_pong).errors == []


@pytest.mark.parametrize("frame", [ASK, ws_frame("{"), ws_frame('{"type":"future"}')])
def test_a_flood_of_frames_is_told_when_to_come_back_and_closed(
    world: RawWorld, frame: bytes
) -> None:
    with world.connected(2) as raw:
        raw.send(frame * 1_000)
        answer = raw.answer()
        assert answer.close == 4429
        assert answer.events[-1]["code"] == "too_many_commands"
        assert answer.events[-1]["retry_after_ms"] > 0


def test_a_frame_may_come_byte_by_byte(world: RawWorld) -> None:
    with world.connected() as raw:
        for byte in ASK:
            raw.send(bytes((byte,)))
        assert raw.answer(is_pong).alive


def test_binary_is_told_and_closed(world: RawWorld) -> None:
    assert told(world, ws_frame(b"\x00\x01", BINARY)) == (["bad_frame"], 4500)


def test_endless_fragments_and_pings_end_or_are_borne(world: RawWorld) -> None:
    before = world.rss_bytes()
    for flood in (
        ws_frame(b"{", fin=False) + ws_frame(b"", CONT, fin=False) * 50_000,
        ws_frame(b"x" * 125, PING) * 5_000,
        ws_frame(b"x" * 125, PONG) * 5_000,
    ):
        with world.connected() as raw:
            raw.socket.settimeout(5.0)
            with suppress(TimeoutError):  # that the server stops reading is an answer too
                raw.send(flood)
            raw.half_close()
            assert raw.answer().close in {None, 1009}
    assert world.rss_bytes() - before < GROWTH_BYTES


ORDERS: dict[str, tuple[tuple[dict[str, Any], ...], str, int]] = {
    "send before hello": (({"type": "send", "id": "a", "text": "x"},), "bad_frame", 4500),
    "stop before hello": (({"type": "stop", "id": "a", "run": "r"},), "bad_frame", 4500),
    "ping before hello": (({"type": "ping"},), "bad_frame", 4500),
    "a type of the future before hello": (({"type": "future"},), "bad_frame", 4500),
    "another version": (({"type": "hello", "v": 99},), "unsupported_version", 4505),
    "a version that is no number": (({"type": "hello", "v": "1"},), "bad_frame", 4500),
    "no token": (({"type": "hello", "v": 1},), "not_authenticated", 4501),
    "a forged token": (({"type": "hello", "v": 1, "token": "a.b.c"},), "not_authenticated", 4501),
    "a token of surrogates": (({"type": "hello", "v": 1, "token": "\ud800"},), "bad_frame", 4500),
    "a token of zeros": (({"type": "hello", "v": 1, "token": "\0\0"},), "not_authenticated", 4501),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_what_comes_before_a_good_hello_is_told_and_closed(world: RawWorld, name: str) -> None:
    frames, code, close = ORDERS[name]
    with raw_socket(world.url) as raw:
        raw.upgrade()
        raw.send(*(json_frame(**frame) for frame in frames))
        answer = raw.answer()
        assert (answer.errors, answer.close) == ([code], close)


def test_a_second_hello_is_refused_and_the_first_one_holds(world: RawWorld) -> None:
    with world.connected() as raw:
        raw.send(json_frame(type="hello", v=1, token=world.tokens[1]), ASK)
        assert raw.answer(is_pong).errors == ["bad_frame"]


TEXTS: dict[str, str] = {
    "deep arrays": "[" * 30_000 + "]" * 30_000,
    "deep objects": '{"a":' * 9_000 + "1" + "}" * 9_000,
    "deep inside a field": '{"type":"send","id":"a","x":' + "[" * 20_000 + "]" * 20_000 + "}",
    "an open array": "[" * 60_000,
    "a huge number": '{"type":"attach","id":"a","run":"r","offset":' + "9" * 5_000 + "}",
    "an infinite number": '{"type":"attach","id":"a","run":"r","offset":1e999}',
    "a number with a huge exponent": '{"type":"attach","id":"a","run":"r","offset":1e-99999999999}',
    "a negative offset": '{"type":"attach","id":"a","run":"r","offset":-1}',
    "NaN": '{"type":"attach","id":"a","run":"r","offset":NaN}',
    "Infinity": '{"type":"attach","id":"a","run":"r","offset":Infinity}',
    "a lone surrogate": '{"type":"send","id":"a","text":"\\ud800"}',
    "surrogates the wrong way round": '{"type":"send","id":"a","text":"\\udc00\\ud800"}',
    "a lone surrogate in the type": '{"type":"\\udfff"}',
    "a control character in a string": '{"type":"send","id":"a","text":"a\x01b"}',
    "a key twice, the second one wrong": '{"type":"send","id":"a","text":"x","text":5}',
    "a trailing comma": '{"type":"ping",}',
    "a comment": '{"type":"ping"} // hello',
    "two objects": '{"type":"ping"}{"type":"ping"}',
    "single quotes": "{'type':'ping'}",
    "a byte order mark": '\ufeff{"type":"ping"}',
    "nothing": "",
    "white space": " \n\t ",
    "a zero byte": "\x00",
    "a string": '"ping"',
    "an escape that is none": '{"type":"\\x70ing"}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_json_that_cannot_be_used_is_refused_and_the_connection_lives(
    world: RawWorld, name: str
) -> None:
    with world.connected() as raw:
        raw.send(ws_frame(TEXTS[name]), ASK)
        answer = raw.answer(is_pong)
        assert answer.alive
        assert answer.errors == ["bad_frame"]
    with raw_socket(world.url) as before_hello:
        before_hello.upgrade()
        before_hello.send(ws_frame(TEXTS[name]))
        answer = before_hello.answer()
        assert (answer.errors, answer.close) == (["bad_frame"], 4500)


def test_a_key_twice_counts_as_one_of_them(world: RawWorld) -> None:
    with world.connected() as raw:
        raw.send(ws_frame('{"type":"stop","type":"ping"}'), ASK)
        assert raw.answer(is_pong).alive


WRONG = (
    "null", "true", "0", "-1", "1.5", "1e400", "9" * 40, '""', '"\\u0000"', '"\\ud800"', '"../x"',
    json.dumps("x" * 9_000), json.dumps("é" * 33), "[]", "[[[]]]", "[null]", "{}", '{"a":1}',
    '[{"run":"r","offset":-1}]', '[{"run":1,"offset":0}]', '[{"run":"r"}]', '{"memory":0}',
    '{"epoch":1,"seq":0}', '{"epoch":"e","seq":"0"}', '{"epoch":"e","seq":1e3}', '{"epoch":"e"}',
    "[" + ",".join(['{"run":"r","offset":0}'] * 65) + "]", "NaN",
)  # fmt: skip


@pytest.mark.parametrize("kind", struct_types(ClientFrame), ids=lambda kind: kind.__name__)
def test_a_wrong_type_in_any_field_of_any_frame_is_told_by_field(
    world: RawWorld, kind: type[ClientFrame]
) -> None:
    example = sent_fields(EXAMPLES[kind])
    for field in msgspec.structs.fields(kind):
        parts = {name: json.dumps(value) for name, value in example.items()}
        texts = ["{" + _joined(parts | {field.encode_name: wrong}) + "}" for wrong in WRONG]
        with world.connected() as raw:
            for text in texts:
                _is_answered(raw, text)


def _joined(parts: dict[str, str]) -> str:
    return ",".join(f"{json.dumps(name)}:{value}" for name, value in parts.items())


def _is_answered(raw: RawSocket, text: str) -> None:
    """What cannot be read is refused, with the field that is wrong; nothing ends by it."""
    mark = f"mark-{next(marks)}"
    raw.send(ws_frame(text), json_frame(type="stop", id=mark, run="none"))
    answer = raw.answer(lambda event: event.get("re") == mark)
    assert answer.alive
    refusals = [event for event in answer.events if event.get("code") == "bad_frame"]
    try:
        frame = parse_frame(text)
    except BadFrame as refused:
        (error,) = refusals
        assert error.get("field") == refused.field
        assert error.get("re") == refused.re
    else:
        assert bool(refusals) == isinstance(frame, Hello)


@fuzzed
@given(junk=st.binary(max_size=400), greeted=st.booleans())
def test_random_bytes_end_with_a_close_code_or_the_connection(
    *, world: RawWorld, junk: bytes, greeted: bool
) -> None:
    _ends(world, junk, greeted=greeted)


ws_frames = st.builds(
    ws_frame,
    st.one_of(
        st.binary(max_size=130),
        st.sampled_from([ALIVE, '{"type":"draft","text":"x"}', "{", '"', "\ud7ff"]),
    ),
    st.sampled_from([CONT, 0x1, BINARY, CLOSE, PING, PONG, 0x3, 0xF]),
    fin=st.booleans(),
    reserved=st.sampled_from([0, 0, 0, 0, 1, 2, 4]),
    mask=st.sampled_from([True, True, True, False]),
    size=st.one_of(st.none(), st.none(), st.integers(0, 2**64 - 1)),
)


@fuzzed
@given(frames=st.lists(ws_frames, max_size=8), cut=st.integers(0, 40), greeted=st.booleans())
def test_random_frames_end_with_a_close_code_or_the_connection(
    *, world: RawWorld, frames: list[bytes], cut: int, greeted: bool
) -> None:
    _ends(world, b"".join(frames)[cut if cut > 20 else 0 :], greeted=greeted)


def _ends(world: RawWorld, parts: bytes, *, greeted: bool) -> None:
    with raw_socket(world.url, world.tokens[0] if greeted else None) as raw:
        if not greeted:
            raw.upgrade()
        raw.send(parts)
        raw.half_close()
        answer = raw.answer()
        assert answer.close is None or answer.close in CLOSE_CODES


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["a", "r1", "ping", "\ud800", 2**53, 2**53 + 1]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
KINDS = [str(kind.__struct_config__.tag) for kind in struct_types(ClientFrame)]
FIELDS = sorted({name for kind in struct_types(ClientFrame) for name in kind.__struct_fields__})
shaped = st.builds(
    lambda kind, fields: json.dumps({"type": kind, **fields}),
    st.one_of(st.sampled_from(KINDS), st.text(max_size=5), json_values),
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A good frame with a few characters changed."""
    kind = draw(st.sampled_from(struct_types(ClientFrame)))
    text = list(json.dumps(sent_fields(EXAMPLES[kind])))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text) - 1))
        text[at] = draw(st.sampled_from(['"', "{", "}", "[", ",", "0", "\\", "\x00", "é", "", "-"]))
    return "".join(text)


@fuzzed
@given(texts=st.lists(st.one_of(shaped, mutated()), min_size=1, max_size=6))
def test_random_json_in_the_shape_of_frames_is_answered(world: RawWorld, texts: list[str]) -> None:
    with world.connected(1) as raw:
        for text in texts:
            _is_answered(raw, text)


@fuzzed
@given(text=st.one_of(shaped, mutated()))
def test_random_json_instead_of_hello_is_told_and_closed(world: RawWorld, text: str) -> None:
    with raw_socket(world.url) as raw:
        raw.upgrade()
        raw.send(ws_frame(text))
        answer = raw.answer()
        assert len(answer.errors) == 1
        assert answer.close == ERRORS[answer.errors[0]].close  # type: ignore[index]  # a code


def asked(world: RawWorld, line: bytes, rest: bytes = b"") -> bytes:
    """A request of a user over HTTP, on a connection of its own."""
    session = b"Authorization: Bearer " + world.tokens[0].encode()
    close = b"" if rest else b"Connection: close\r\n"
    return line + b" HTTP/1.1\r\nHost: x\r\n" + session + b"\r\n" + close + (rest or b"\r\n")


BODIES = {
    "broken off": b"Content-Length: 50\r\n\r\n{",
    "broken off between pieces": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "pieces without a length": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello",
    "two lengths": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "a negative length": b"Content-Length: -3\r\n\r\n",
    "an endless length": b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "deep JSON": b"Content-Length: 4000\r\n\r\n" + b"[" * 4_000,
    "no UTF-8": b'Content-Length: 3\r\n\r\n"\xff"',
}
TAKING_BODIES = (
    b"DELETE /api/me",
    b"PATCH /api/conversations/x",
    b"PATCH /api/memories/x",
    b"POST /api/import",
    b"POST /admin/erase",
)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("route", TAKING_BODIES)
def test_a_body_that_is_none_is_the_fault_of_who_sent_it(
    world: RawWorld, route: bytes, name: str
) -> None:
    with raw_socket(world.url) as raw:
        raw.send(asked(world, route, BODIES[name]))
        raw.half_close()
        head = raw.head()
        assert not head or int(head.split()[1]) < 500
    with raw_socket(world.url) as raw:
        raw.send(asked(world, route, BODIES[name]))
        raw.reset()


PATHS = (
    b"/api/search?q=%ff%fe", b"/api/search?q=%00", b"/api/search?q=\xed\xa0\x80",
    b"/api/search?q=%ed%a0%80", b"/api/search?q=a&k=%d9%a3", b"/api/search?" + b"q=a&" * 3_000,
    b"/api/conversations?before=%00%ff", b"/api/conversations?before=" + b"x" * 5_000,
    b"/api/conversations/%00/messages", b"/api/conversations/%ff/messages?before=%ff&head=%00",
    b"/api/conversations/" + b"x" * 9_000 + b"/messages", b"/api/erasures/%00%ff", b"/%c0%af",
    b"/%2e%2e/%2e%2e/etc/passwd", b"/..%2f..%2fetc", b"/%00", b"/index.html%00", b"//x", b"*",
    b"/" + b"a" * 5_000, b"http://[::1/",
)  # fmt: skip


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"PATCH", b"POST", b"BREW"])
def test_a_path_that_is_none_is_no_fault_of_the_server(world: RawWorld, method: bytes) -> None:
    for path in PATHS:
        with raw_socket(world.url) as raw:
            raw.send(asked(world, method + b" " + path))
            head = raw.head()
            assert 200 <= int(head.split()[1]) < 500, path


def test_an_endless_head_is_not_kept(world: RawWorld) -> None:
    before = world.rss_bytes()
    for start in (b"GET /", b"GET / HTTP/1.1\r\nX-Y: ", b"POST /ws HTTP/1.1\r\nX"):
        with raw_socket(world.url) as raw:
            raw.send(start)
            for _ in range(100):
                raw.send(b"z" * 500_000)
            assert raw.head() == b""
    assert world.rss_bytes() - before < GROWTH_BYTES


def bad_connection(world: RawWorld, number: int) -> None:
    """One of many ways in which a connection goes wrong."""
    user = number
    match number % 8:
        case 0:
            told(world, ws_frame(b"\xff"), user=user)
        case 1:
            told(world, ws_frame(b" " * 65_537), user=user)
        case 2:
            told(world, ws_frame(b"\x00", BINARY), user=user)
        case 3:
            with raw_socket(world.url) as raw:
                raw.upgrade()
                raw.send(json_frame(type="hello", v=1, token="x" * 900))
                raw.answer()
        case 4:
            with world.connected(user) as raw:
                raw.send(ws_frame(b"x" * 30_000, fin=False), ws_frame(b"", CONT, fin=False) * 50)
                raw.reset()
        case 5:
            with raw_socket(world.url) as raw:
                raw.upgrade()
                raw.reset()
        case 6:
            with world.connected(user) as raw:
                raw.send(ws_frame("[" * 30_000), ws_frame("{"), ASK)
                assert raw.answer(is_pong).alive
        case _:
            with raw_socket(world.url) as raw:
                raw.send(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                raw.head()


def test_two_thousand_bad_connections_leave_nothing_behind(world: RawWorld) -> None:
    for number in range(400):
        bad_connection(world, number)
    world.well_behaved.wait_served(3)
    rss, files = world.rss_bytes(), world.open_files()
    for number in range(BAD_CONNECTIONS):
        bad_connection(world, number)
    world.well_behaved.wait_served(3)
    assert world.rss_bytes() - rss < GROWTH_BYTES
    assert world.wait_connections(1) == 1
    assert world.open_files() <= files + 2
