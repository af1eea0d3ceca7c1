"""The WebSocket protocol, version 1, the client's side: frames in; no I/O.

Inbound frames are JSON objects with a ``type``. Unknown fields and types are ignored, so that
older servers understand newer clients as far as they can. What goes out is in
:mod:`chat_server.events`. See docs/protocol.md.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Final

import msgspec

from chat_server.errors import ChatError

VERSION: Final = 1
SUBPROTOCOL: Final = "tandem.v1"
HELLO_WITHIN_S: Final = 10.0
HEARTBEAT_S: Final = 25.0

ClientId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
"""An id that a client made: a ULID, a UUID or anything of that alphabet."""


class ClientFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """What a client sends."""


class ResumePoint(msgspec.Struct, frozen=True):
    """The last durable event that the client has seen."""

    epoch: Annotated[str, msgspec.Meta(max_length=64)]
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class RunPoint(msgspec.Struct, frozen=True):
    """How much of a running reply the client has, in code points."""

    run: ClientId
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Hello(ClientFrame, frozen=True, kw_only=True):
    """Must be the first frame, within ``HELLO_WITHIN_S``."""

    v: int
    token: str | None = None
    client: Annotated[str, msgspec.Meta(max_length=80)] | None = None
    resume: ResumePoint | None = None
    runs: Annotated[tuple[RunPoint, ...], msgspec.Meta(max_length=64)] = ()


class Auth(ClientFrame, frozen=True, kw_only=True):
    """Renew an identity that ends, with a new token of the same user."""

    id: ClientId
    token: str


class SendOptions(msgspec.Struct, frozen=True):
    """``memory`` off: answer without memories of other conversations."""

    memory: bool = True


class Send(ClientFrame, frozen=True, kw_only=True):
    """Say something. ``id`` is the client's own and safe to repeat for ever."""

    id: ClientId
    text: str
    conversation: ClientId | None = None
    parent: ClientId | None = None
    author: Annotated[str, msgspec.Meta(min_length=1, max_length=80)] | None = None
    retry: bool = False
    options: SendOptions = SendOptions()


class Stop(ClientFrame, frozen=True, kw_only=True):
    """End a run; what it said so far is kept."""

    id: ClientId
    run: ClientId


class Regenerate(ClientFrame, frozen=True, kw_only=True):
    """Have another reply made, beside the one that is there; ``message`` is that reply, or the
    question. The same ``id`` asks for the same reply for ever.
    """

    id: ClientId
    message: ClientId


class Edit(ClientFrame, frozen=True, kw_only=True):
    """Say something else in the place of ``message``, beside it: a branch begins there."""

    id: ClientId
    message: ClientId
    text: str


class Attach(ClientFrame, frozen=True, kw_only=True):
    """Have what is missing of a reply, from ``offset`` on, and what comes of it."""

    id: ClientId
    run: ClientId
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class Draft(ClientFrame, frozen=True, kw_only=True):
    """What the user is typing; never stored."""

    text: str
    conversation: ClientId | None = None


class Ping(ClientFrame, frozen=True, kw_only=True):
    """Are you there?"""


class Pong(ClientFrame, frozen=True, kw_only=True):
    """The answer to the server's ``ping``."""


AnyClientFrame = Hello | Auth | Send | Stop | Regenerate | Edit | Attach | Draft | Ping | Pong


class Envelope(msgspec.Struct, frozen=True):
    """The part of a frame that says how to read the rest."""

    type: str
    id: msgspec.Raw = msgspec.Raw(b"null")


_envelope: Final = msgspec.json.Decoder(Envelope)
_decoders: Final[dict[str, msgspec.json.Decoder[AnyClientFrame]]] = {
    kind.__name__.lower(): msgspec.json.Decoder(kind)
    for kind in (Hello, Auth, Send, Stop, Regenerate, Edit, Attach, Draft, Ping, Pong)
}
_field_path: Final = re.compile(r" - at `\$\.?([^`]*)`$")


class BadFrame(ChatError):
    """A frame that cannot be used. ``re`` is its id where that could be read."""

    def __init__(self, message: str, *, field: str | None = None, re: str | None = None) -> None:
        super().__init__("bad_frame", message, field=field)
        self.re = re


def parse_frame(text: str) -> AnyClientFrame | None:
    """Read one text frame; ``None`` for a type that this version does not know.

    Raises:
        BadFrame: it is not JSON, not an object, or a field is missing or wrong; the error names
            the field.
    """
    try:
        envelope = _envelope.decode(text)
    except msgspec.ValidationError as wrong:
        raise _bad_frame(wrong) from wrong
    except (msgspec.DecodeError, RecursionError, UnicodeError) as wrong:
        raise BadFrame("the frame is not a JSON object") from wrong
    decoder = _decoders.get(envelope.type)
    if decoder is None:
        return None
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as wrong:
        raise _bad_frame(wrong, re=_frame_id(envelope)) from wrong
    except (msgspec.DecodeError, RecursionError, UnicodeError) as wrong:
        raise BadFrame("the frame is not valid JSON", re=_frame_id(envelope)) from wrong


def _frame_id(envelope: Envelope) -> str | None:
    try:
        return msgspec.json.decode(envelope.id, type=ClientId)
    except (msgspec.DecodeError, UnicodeError):
        return None


def _bad_frame(wrong: msgspec.ValidationError, *, re: str | None = None) -> BadFrame:
    """The error that names the field, from msgspec's text (``... - at `$.id```)."""
    text = str(wrong)
    where = _field_path.search(text)
    missing = text.partition("missing required field `")[2].partition("`")[0]
    field = ".".join(part for part in (where.group(1) if where else "", missing) if part)
    reason = _field_path.sub("", text)
    return BadFrame(reason[:1].lower() + reason[1:], field=field or None, re=re)


def is_visible(character: str) -> bool:
    """Whether a person sees it: no space, control or format character (Unicode categories)."""
    return unicodedata.category(character)[0] not in "ZC"


def check_text(text: str, max_bytes: int) -> None:
    """Refuse a message that is empty or too long.

    Raises:
        ChatError: ``empty_text`` or ``text_too_long``, field ``text``.
    """
    if not any(is_visible(character) for character in text):
        raise ChatError(
            "empty_text", "a message needs at least one visible character", field="text"
        )
    size = len(text.encode())
    if size > max_bytes:
        raise ChatError(
            "text_too_long",
            f"the message has {size:,} bytes; at most {max_bytes:,} are allowed",
            field="text",
        )
