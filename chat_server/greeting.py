"""``hello``: who it is that connects, and whether they may."""

from __future__ import annotations

from starlette.datastructures import Headers

from chat_server.authentication import Authenticator, Session, cookie_token
from chat_server.errors import ChatError
from chat_server.protocol import VERSION, AnyClientFrame, Auth, BadFrame, Hello


def greet(
    frame: AnyClientFrame | None, headers: Headers, authenticator: Authenticator
) -> tuple[Hello, Session]:
    """Read a connection's first *frame*; without a token in it the cookie of *headers* counts.

    Raises:
        ChatError: the connection cannot be used; it carries the close code.
    """
    if not isinstance(frame, Hello):
        raise BadFrame("the first frame must be a hello", field="type")
    if frame.v != VERSION:
        raise ChatError("unsupported_version", f"this server speaks version {VERSION}", field="v")
    token = frame.token or cookie_token(headers)
    if token is None:
        raise ChatError(
            "not_authenticated",
            "hello needs a token; POST /api/session gives one",
            field="token",
        )
    return frame, authenticator.session(token)


def renewed(auth: Auth, session: Session, authenticator: Authenticator) -> Session:
    """The session that goes on in the place of *session*.

    Raises:
        ChatError: the token is not valid, or somebody else's; *session* holds on.
    """
    fresh = authenticator.session(auth.token)
    if fresh.identity.user != session.identity.user:
        raise ChatError("forbidden", "the token is of another user; reconnect", field="token")
    return fresh
