from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from chat_server.authentication import COOKIE, Authenticator, Identity
from chat_server.errors import ChatError
from chat_server.greeting import greet, renewed
from chat_server.protocol import AnyClientFrame, Auth, Hello, Ping
from memory.messages import UserId

AUTHENTICATOR = Authenticator("secret", guests=True)
ANA, BOB = UserId("ana"), UserId("bob")


def token(user: UserId) -> str:
    return AUTHENTICATOR.token(Identity(user))


def test_the_token_of_hello_goes_before_the_cookie() -> None:
    headers = Headers({"cookie": f"{COOKIE}={token(BOB)}"})
    _, by_token = greet(Hello(v=1, token=token(ANA)), headers, AUTHENTICATOR)
    _, by_cookie = greet(Hello(v=1), headers, AUTHENTICATOR)
    assert (by_token.identity.user, by_cookie.identity.user) == (ANA, BOB)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (None, "bad_frame"),
        (Ping(), "bad_frame"),
        (Hello(v=2, token="x"), "unsupported_version"),
        (Hello(v=1), "not_authenticated"),
        (Hello(v=1, token="forged"), "not_authenticated"),
    ],
)
def test_who_cannot_be_let_in_is_told_why(frame: AnyClientFrame | None, code: str) -> None:
    with pytest.raises(ChatError) as refused:
        greet(frame, Headers(), AUTHENTICATOR)
    assert refused.value.code == code


def test_a_session_goes_on_with_a_token_of_the_same_user() -> None:
    session = AUTHENTICATOR.session(token(ANA))
    assert renewed(Auth(id="a", token=token(ANA)), session, AUTHENTICATOR).identity.user == ANA
    with pytest.raises(ChatError) as refused:
        renewed(Auth(id="a", token=token(BOB)), session, AUTHENTICATOR)
    assert (refused.value.code, refused.value.field) == ("forbidden", "token")
