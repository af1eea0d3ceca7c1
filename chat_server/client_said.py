"""What a client says: ids, and the frame of a message; no I/O."""

from __future__ import annotations

import secrets
import time
from typing import Final, TypedDict

from chat_server.client_runs import Frame

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id() -> str:
    """An id for a message or a conversation: a ULID, 26 characters that sort by time."""
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))


class SendFields(TypedDict, total=False):
    """What may be said of a message; see :meth:`Client.send`."""

    conversation: str | None
    parent: str | None
    author: str | None
    memory: bool
    id: str | None


def send_frame(text: str, fields: SendFields) -> Frame:
    """The frame that says *text*, with no more in it than was asked for."""
    frame: Frame = {"type": "send", "id": fields.get("id") or new_id(), "text": text}
    for name in ("conversation", "parent", "author"):
        if fields.get(name) is not None:
            frame[name] = fields.get(name)
    if not fields.get("memory", True):
        frame["options"] = {"memory": False}
    return frame
