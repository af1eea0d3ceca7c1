from __future__ import annotations

import base64
import re
import time

import pytest
from itsdangerous import URLSafeTimedSerializer
from starlette.datastructures import Headers

from chat_server import authentication
from chat_server.authentication import (
    SESSION_LIFE_S,
    AdminGuard,
    Authenticator,
    Identity,
    bearer_token,
    cookie_token,
    drop_cookie,
    origin_allowed,
    session_token,
    set_cookie,
)
from chat_server.errors import ChatError
from memory.messages import UserId

ADA = Identity(UserId("ada"), "Ada Lovelace, 愛")


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator("a secret", guests=True)


def refusal(authenticator: Authenticator, token: str) -> ChatError:
    with pytest.raises(ChatError) as caught:
        authenticator.identify(token)
    assert caught.value.code == "not_authenticated"
    assert caught.value.field is None  # it may have come in a frame, a header or a cookie
    assert token == "" or token not in caught.value.message
    return caught.value


def test_a_guest_is_known_again_by_the_token(authenticator: Authenticator) -> None:
    guest = authenticator.new_guest()
    assert re.fullmatch("guest-[a-z2-7]{26}", guest.user)
    assert authenticator.identify(authenticator.token(guest)) == guest
    assert authenticator.new_guest() != guest


def test_a_name_goes_with_the_token(authenticator: Authenticator) -> None:
    assert authenticator.identify(authenticator.token(ADA)) == ADA


def test_guests_can_be_turned_away_and_old_ones_stay(authenticator: Authenticator) -> None:
    strict = Authenticator("a secret", guests=False)
    with pytest.raises(ChatError) as caught:
        strict.new_guest()
    assert caught.value.code == "not_authenticated"
    guest = authenticator.new_guest()
    assert strict.identify(authenticator.token(guest)) == guest


def test_any_altered_byte_makes_a_token_worthless(authenticator: Authenticator) -> None:
    token = authenticator.token(ADA)
    for index, letter in enumerate(token):
        other = "A" if letter != "A" else "B"
        altered = token[:index] + other + token[index + 1 :]
        if index == len(token) - 1 and _same_bytes(altered, token):
            continue  # base64 leaves bits of the last letter unused
        refusal(authenticator, altered)


def _same_bytes(one: str, other: str) -> bool:
    ends = [base64.urlsafe_b64decode(text.rpartition(".")[2] + "=") for text in (one, other)]
    return ends[0] == ends[1]


def test_another_servers_token_is_worthless(authenticator: Authenticator) -> None:
    refusal(authenticator, Authenticator("another secret", guests=True).token(ADA))


def test_what_was_signed_for_another_purpose_is_worthless(authenticator: Authenticator) -> None:
    options = authenticator._serializer.signer_kwargs
    other = URLSafeTimedSerializer("a secret", salt="another purpose", signer_kwargs=options)
    signed = other.dumps({"u": "ada"})
    refusal(authenticator, signed if isinstance(signed, str) else signed.decode())


@pytest.mark.parametrize(
    "payload", [None, "ada", ["ada"], {}, {"u": ""}, {"u": 7}, {"u": "ada", "admin": True}]
)
def test_a_signed_token_of_another_shape_is_worthless(
    authenticator: Authenticator, payload: object
) -> None:
    signed = authenticator._serializer.dumps(payload)
    refusal(authenticator, signed if isinstance(signed, str) else signed.decode())


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "x" * 1_000_000, "tökèn", "\x00", "\ud800"]
)
def test_what_is_no_token_is_refused(authenticator: Authenticator, token: str) -> None:
    refusal(authenticator, token)


def test_a_token_lasts_400_days(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    token = authenticator.token(ADA)
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now + 399 * 86_400)
    assert authenticator.identify(token) == ADA
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now + 401 * 86_400)
    refusal(authenticator, token)


def test_a_token_that_could_not_be_read_again_is_not_made(authenticator: Authenticator) -> None:
    name = "".join(chr(0x4E00 + number) for number in range(1000))  # does not compress
    with pytest.raises(ValueError, match="at most 1024"):
        authenticator.token(Identity(UserId("ada"), name))


def test_there_is_no_authenticator_without_a_secret() -> None:
    with pytest.raises(ValueError, match="secret"):
        Authenticator("", guests=True)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("abc", None),
        ("", None),
    ],
)
def test_a_bearer_token_is_read_from_its_header(header: str, token: str | None) -> None:
    assert bearer_token(Headers({"Authorization": header})) == token


def test_without_headers_there_is_no_token() -> None:
    assert session_token(Headers({})) is None


def test_the_session_cookie_is_found_among_others() -> None:
    raw = [(b"cookie", b"a=1; tandem_session=abc.d-_e; b=2"), (b"cookie", b"c=3")]
    assert cookie_token(Headers(raw=raw)) == "abc.d-_e"
    assert cookie_token(Headers(raw=raw[1:])) is None
    assert cookie_token(Headers({"cookie": "tandem_session="})) is None


def test_a_bearer_token_goes_before_the_cookie() -> None:
    cookie = {"cookie": "tandem_session=from-cookie"}
    assert session_token(Headers(cookie)) == "from-cookie"
    both = {**cookie, "authorization": "Bearer from-header"}
    assert session_token(Headers(both)) == "from-header"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    assert set_cookie("abc", secure=False) == (
        f"tandem_session=abc; Max-Age={SESSION_LIFE_S}; Path=/; HttpOnly; SameSite=Lax"
    )
    assert set_cookie("abc", secure=True).endswith("; SameSite=Lax; Secure")
    assert authentication.SESSION_LIFE_S == 34_560_000
    assert drop_cookie() == "tandem_session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "chat.example", True),
        ("http://localhost:8000", "localhost:8000", True),
        ("https://chat.example", "chat.example", True),
        ("https://chat.example", "chat.example:443", True),
        ("https://Chat.Example", "chat.example", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://app.example", "chat.example", True),
        ("https://app.example:443", "chat.example", True),
        ("http://app.example", "chat.example", False),
        ("https://app.example:8443", "chat.example", False),
        ("http://localhost:8001", "localhost:8000", False),
        ("https://evil.example", "chat.example", False),
        ("https://chat.example.evil.example", "chat.example", False),
        ("https://evil.example/chat.example", "evil.example", False),
        ("https://chat.example@evil.example", "evil.example", False),
        ("null", "chat.example", False),
        ("null", None, False),
        ("", "chat.example", False),
        ("file://", "", False),
        ("http://", "", False),
        ("http://None", None, False),
        ("http://chat.example:port", "chat.example:port", False),
        ("http://[::1", "[::1", False),
        ("chrome-extension://abc", "abc", False),
    ],
)
def test_only_pages_of_this_server_and_named_ones_may_connect(
    origin: str | None, host: str | None, *, allowed: bool
) -> None:
    assert origin_allowed(origin, host, ["https://app.example/"]) is allowed


def test_the_admin_token_lets_in_and_nothing_else() -> None:
    guard = AdminGuard("a-token")
    guard.check(Headers({"authorization": "Bearer a-token"}))
    for header in ("", "a-token", "Bearer a-toke", "Bearer a-tokenx", "Bearer tökèn", "Bearer "):
        with pytest.raises(ChatError) as caught:
            guard.check(Headers({"authorization": header}))
        assert caught.value.code == "not_authenticated"
    with pytest.raises(ChatError):
        guard.check(Headers({"cookie": "tandem_session=a-token"}))


def test_an_empty_admin_token_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="empty"):
        AdminGuard("")
