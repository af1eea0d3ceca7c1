"""What the journal holds, and its form on disk: frames that tell damage from truth; pure.

A frame is a mark, the payload's length and its CRC-32, and the payload in MessagePack. The mark
holds a byte that neither UTF-8 nor MessagePack ever uses, so that after damage the next frame is
found again, and nobody's words can pass for one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from memory.messages import ConversationId, Message, MessageId, UserId

SEGMENT_HEADER: Final = b"TANDEM journal 1\n"
MARK: Final = b"\xc1TJ\xc1"
FRAME_BYTES: Final = len(MARK) + 8
LONGEST_PAYLOAD_BYTES: Final = 2**20
"""Of a reply's words with all that belongs to it; a longer length is damage."""


class ReplyBegan(msgspec.Struct, frozen=True, kw_only=True, tag="b", array_like=True):
    """A reply's first words are on their way to the user.

    ``reply`` is the id under which it will be stored, ``question`` what it answers;
    ``timestamp`` in seconds since the epoch, UTC.
    """

    reply: MessageId
    user: UserId
    conversation: ConversationId
    question: MessageId
    timestamp: float
    model: str | None = None


class ReplyGrew(msgspec.Struct, frozen=True, tag="g", array_like=True):
    """``text`` follows the first ``offset`` code points of a reply."""

    reply: MessageId
    offset: int
    text: str


class ReplyEnded(msgspec.Struct, frozen=True, tag="e", array_like=True):
    """A reply that is whole and waits to be stored; its place is found when it is."""

    message: Message


class ReplySettled(msgspec.Struct, frozen=True, tag="s", array_like=True):
    """A reply is stored, or will never be: nothing more is kept of it."""

    reply: MessageId


Record: TypeAlias = ReplyBegan | ReplyGrew | ReplyEnded | ReplySettled

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)


def frame(record: Record) -> bytes:
    """*record* as it stands in a segment."""
    payload = _encoder.encode(record)
    length = len(payload).to_bytes(4, "big")
    crc = zlib.crc32(payload, zlib.crc32(length)).to_bytes(4, "big")
    return b"".join((MARK, length, crc, payload))


class Scan(msgspec.Struct, frozen=True):
    """What a segment holds. ``damaged_bytes`` were passed over; ``torn``: they are its end only,
    as a write leaves them that was cut short.
    """

    records: tuple[Record, ...]
    damaged_bytes: int = 0
    torn: bool = False


def scan(data: bytes) -> Scan:
    """Read a segment; never fails, and never returns what was not written.

    What stands before a damage is read, and what stands after it from the next whole frame on.
    """
    position = len(SEGMENT_HEADER) if data.startswith(SEGMENT_HEADER) else 0
    records: list[Record] = []
    damaged_bytes, first_damage = 0, len(data)
    while position < len(data):
        found = _frame_at(data, position)
        if found is not None:
            record, position = found
            records.append(record)
            continue
        following = data.find(MARK, position + 1)
        end = len(data) if following < 0 else following
        damaged_bytes += end - position
        first_damage = min(first_damage, position)
        position = end
    torn = 0 < damaged_bytes == len(data) - first_damage
    return Scan(tuple(records), damaged_bytes, torn)


def _frame_at(data: bytes, position: int) -> tuple[Record, int] | None:
    """The record whose frame begins at *position*, and where it ends; ``None``: there is none."""
    if not data.startswith(MARK, position) or position + FRAME_BYTES > len(data):
        return None
    begin = position + len(MARK)
    length = data[begin : begin + 4]
    start = begin + 8
    size = int.from_bytes(length, "big")
    end = start + size
    if size > LONGEST_PAYLOAD_BYTES or end > len(data):
        return None
    payload = data[start:end]
    if zlib.crc32(payload, zlib.crc32(length)).to_bytes(4, "big") != data[begin + 4 : start]:
        return None
    try:
        return _decoder.decode(payload), end
    except msgspec.DecodeError:
        return None  # whole, and of another version


class Unsettled(msgspec.Struct, kw_only=True):
    """A reply that is not known to be stored: ``message`` where it ended, else what was shown."""

    began: ReplyBegan | None = None
    text: str = ""
    message: Message | None = None

    @property
    def user(self) -> UserId | None:
        if self.message is not None:
            return self.message.user
        return self.began.user if self.began is not None else None

    def as_message(self) -> Message | None:
        """The message to store: the reply as it ended, or what was shown of it as
        ``interrupted``; ``None``: nothing was shown. Its place is to be found still.
        """
        if self.message is not None:
            return self.message
        if self.began is None or not self.text:
            return None
        return Message(
            id=self.began.reply,
            user=self.began.user,
            conversation=self.began.conversation,
            role="assistant",
            text=self.text,
            timestamp=self.began.timestamp,
            depth=0,
            status="interrupted",
            model=self.began.model,
            reply_to=self.began.question,
        )


def unsettled(records: Iterable[Record]) -> dict[MessageId, Unsettled]:
    """The replies among *records* that are not settled, in the order in which they began.

    Reading records twice, or a copy of the first ones again, makes no difference. Text behind a
    gap is left out: what remains is what was shown, as far as it is known without one.
    """
    found: dict[MessageId, Unsettled] = {}
    for record in records:
        match record:
            case ReplyBegan():
                found.setdefault(record.reply, Unsettled()).began = record
            case ReplyGrew():
                _grow(found.setdefault(record.reply, Unsettled()), record)
            case ReplyEnded():
                found.setdefault(record.message.id, Unsettled()).message = record.message
            case ReplySettled():
                found.pop(record.reply, None)
    return found


def _grow(reply: Unsettled, grew: ReplyGrew) -> None:
    has = len(reply.text)
    if grew.offset <= has < grew.offset + len(grew.text):
        reply.text += grew.text[has - grew.offset :]
