"""Who is speaking: signed sessions, the headers that carry them, origins, and the admin token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from chat_server.errors import ChatError
from memory.messages import UserId

COOKIE: Final = "tandem_session"
SALT: Final = "tandem.session.v1"
SESSION_LIFE_S: Final = 400 * 86_400
"""400 days: browsers keep a cookie no longer (RFC 6265bis, section 5.5)."""

MAX_TOKEN_BYTES: Final = 1024
"""More than any token made here; nothing longer is decoded."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Identity(msgspec.Struct, frozen=True):
    """Who a session belongs to. ``name`` is what the user wants to be called, if known.

    ``expires_at``, in seconds since the epoch: renewing the session does not outlast it.
    """

    user: UserId
    name: str | None = None
    expires_at: int | None = None


class Session(NamedTuple):
    """An identity, and when the token that shows it ends, in seconds since the epoch."""

    identity: Identity
    ends_at: float


class _Payload(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a token says, in short names: user id, name, and when it ends (s since the epoch)."""

    u: str
    n: str | None = None
    e: int | None = None


class Authenticator:
    """Makes session tokens and knows its own again.

    A token is signed, not encrypted: its holder can read it and nobody can change it. It is
    valid for ``SESSION_LIFE_S`` seconds on every server with the same *secret*.
    """

    def __init__(self, secret: str, *, guests: bool) -> None:
        if not secret:
            raise ValueError("sessions need a secret")
        self._guests = guests
        self._serializer = URLSafeTimedSerializer(
            secret,
            salt=SALT,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def new_guest(self) -> Identity:
        """Somebody never seen before: an id of 128 random bits.

        Raises:
            ChatError: ``not_authenticated``, where guests are not welcome.
        """
        if not self._guests:
            raise ChatError("not_authenticated", "this server has no guests; log in")
        digits = base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()
        return Identity(UserId(f"guest-{digits}"))

    def token(self, identity: Identity) -> str:
        """A token for *identity*, of letters, digits, ``-``, ``_`` and ``.``.

        Raises:
            ValueError: user id and name together are too long for a token.
        """
        payload = msgspec.to_builtins(_Payload(identity.user, identity.name, identity.expires_at))
        token = self._serializer.dumps(payload)
        text = token if isinstance(token, str) else token.decode()
        if len(text) > MAX_TOKEN_BYTES:
            raise ValueError(f"a token of {len(text)} bytes; at most {MAX_TOKEN_BYTES} are read")
        return text

    def identify(self, token: str) -> Identity:
        """Whose *token* this is; raises as :meth:`session`."""
        return self.session(token).identity

    def session(self, token: str) -> Session:
        """Whose *token* this is, and until when.

        Raises:
            ChatError: ``not_authenticated``: forged, altered, expired, or no token at all. Which
                of them is not said; a client can only start a new session.
        """
        try:
            if len(token) > MAX_TOKEN_BYTES or not token.isascii():
                raise BadData("no token has this shape")
            said, made_at = self._serializer.loads(
                token, max_age=SESSION_LIFE_S, return_timestamp=True
            )
            payload = msgspec.convert(said, _Payload)
            if not payload.u:
                raise BadData("nobody's token")
            if payload.e is not None and payload.e <= time.time():
                raise BadData("over")
        except (BadData, msgspec.ValidationError):
            raise ChatError(
                "not_authenticated", "the session is not valid, or no longer; start a new one"
            ) from None  # the reason quotes the token
        ends_at = made_at.timestamp() + SESSION_LIFE_S
        if payload.e is not None:
            ends_at = min(ends_at, payload.e)
        return Session(Identity(UserId(payload.u), payload.n, payload.e), ends_at)


class AdminGuard:
    """Knows the admin token."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("an empty admin token would let everybody in")
        self._token = token.encode()

    def check(self, headers: Headers) -> None:
        """Let only requests pass that carry the admin token as a bearer token.

        How long that takes says nothing about a wrong one.

        Raises:
            ChatError: ``not_authenticated``.
        """
        given = bearer_token(headers)
        if given is None or not hmac.compare_digest(given.encode(), self._token):
            raise ChatError(
                "not_authenticated", "admin routes need `Authorization: Bearer <admin token>`"
            )


def bearer_token(headers: Headers) -> str | None:
    """The token of ``Authorization: Bearer ...`` (RFC 6750, section 2.1)."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def cookie_token(headers: Headers) -> str | None:
    """The token in the session cookie; HTTP/2 may send several ``Cookie`` headers."""
    return cookie_parser("; ".join(headers.getlist("cookie"))).get(COOKIE) or None


def session_token(headers: Headers) -> str | None:
    """The bearer token if there is one, else the cookie's: what was sent on purpose goes first."""
    return bearer_token(headers) or cookie_token(headers)


def set_cookie(token: str, *, secure: bool) -> str:
    """The value of a ``Set-Cookie`` header; *secure* where the browser came by https."""
    # Scripts never see it; other sites' forms and frames do not send it.
    cookie = f"{COOKIE}={token}; Max-Age={SESSION_LIFE_S}; Path=/; HttpOnly; SameSite=Lax"
    return cookie + "; Secure" if secure else cookie


def drop_cookie() -> str:
    """The value of a ``Set-Cookie`` header that makes a browser forget the session."""
    return f"{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"


def origin_allowed(origin: str | None, host: str | None, allowed_origins: Iterable[str]) -> bool:
    """Whether a page from *origin* may use the session cookie against this server.

    Browsers name the page's origin with every WebSocket (RFC 6455, section 10.2); nothing else
    does, and without a browser there is no cookie to misuse. *host* is the ``Host`` header.
    """
    if origin is None:
        return True
    asking = _origin(origin)
    if asking is None:
        return False
    scheme = asking[0]
    return asking == _origin(f"{scheme}://{host or ''}") or any(
        asking == _origin(allowed) for allowed in allowed_origins
    )


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port (RFC 6454, section 4); ``None`` for what is no web origin."""
    try:
        parts = urlsplit(text.strip().rstrip("/"))
        port = parts.port
    except ValueError:
        return None
    default = _DEFAULT_PORTS.get(parts.scheme)
    more = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    if default is None or not parts.hostname or more:
        return None
    return parts.scheme, parts.hostname, default if port is None else port
