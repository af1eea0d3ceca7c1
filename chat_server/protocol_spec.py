"""The WebSocket protocol for machines: an AsyncAPI 3.0 document, made from the types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import msgspec

from chat_server.errors import ERRORS
from chat_server.events import (
    Accepted,
    Error,
    Ok,
    RunDelta,
    RunDone,
    RunMemories,
    ServerEvent,
    ServerPong,
    Welcome,
)
from chat_server.json_schemas import markdown, schemas_of, sent_fields, struct_types
from chat_server.protocol import (
    SUBPROTOCOL,
    VERSION,
    Attach,
    Auth,
    ClientFrame,
    Edit,
    Hello,
    Ping,
    Regenerate,
    Send,
    Stop,
)
from chat_server.protocol_examples import EXAMPLES

CHANNEL: Final = "chat"
_CHANNEL_REF: Final = {"$ref": f"#/channels/{CHANNEL}"}

ANSWERS: Final[Mapping[type[ClientFrame], tuple[type[ServerEvent], ...]]] = {
    Hello: (Welcome, Error),
    Auth: (Ok, Error),
    Send: (Accepted, Error),
    Stop: (Ok, Error),
    Regenerate: (Accepted, Error),
    Edit: (Accepted, Error),
    Attach: (Ok, RunMemories, RunDelta, RunDone, Error),
    Ping: (ServerPong,),
}
"""What a frame is answered with; the others have no answer."""

FIRST_FINAL_CODE: Final = 4500
"""From here on: do not come back; below: do."""

CLOSED_BY_LAYER: Final = {
    1007: "a text frame is not UTF-8 (RFC 6455, section 8.1)",
    1009: "a frame is larger than `max_frame_bytes` of `welcome`",
    1002: "a frame breaks the rules of RFC 6455",
}
"""Close codes that the WebSocket layer sends by itself."""

_DESCRIPTION: Final = (
    "Connect, send `hello`, and talk. Frames are JSON objects, one per text frame, told apart by "
    "`type`; unknown fields and types are ignored. `x-error-codes` and `x-close-codes` say what "
    "an error means and whether to come back. docs/protocol.md tells the rules in words."
)


@cache
def asyncapi_json() -> bytes:
    """The document as it is served and printed."""
    return msgspec.json.format(msgspec.json.encode(asyncapi()), indent=2) + b"\n"


def asyncapi() -> dict[str, object]:
    """The document: one channel, an operation for each frame and one for all events."""
    frames = struct_types(ClientFrame)
    events = struct_types(ServerEvent)
    _, schemas = schemas_of([*frames, *events])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tandem",
            "version": str(VERSION),
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8000",
                "protocol": "ws",
                "description": "Where a server listens unless it is told otherwise.",
            }
        },
        "channels": {CHANNEL: _channel([*frames, *events])},
        "operations": {kind.__name__.lower(): _received(kind) for kind in frames}
        | {"events": _sent(events)},
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in (*frames, *events)},
            "schemas": schemas,
        },
        "x-error-codes": _error_codes(),
        "x-close-codes": _close_codes(),
    }


def _channel(kinds: Sequence[type[msgspec.Struct]]) -> dict[str, object]:
    return {
        "address": "/ws",
        "title": "The connection",
        "description": "Everything that is live, in both directions.",
        "messages": {
            kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds
        },
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "Sec-WebSocket-Protocol": {"type": "string", "enum": [SUBPROTOCOL]}
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
    }


def _received(kind: type[ClientFrame]) -> dict[str, object]:
    """What the server does with a frame; AsyncAPI tells it from the server's side."""
    operation: dict[str, object] = {
        "action": "receive",
        "channel": _CHANNEL_REF,
        "summary": _summary(kind),
        "messages": _in_channel([kind]),
    }
    if answers := ANSWERS.get(kind):
        operation["reply"] = {"channel": _CHANNEL_REF, "messages": _in_channel(answers)}
    return operation


def _sent(kinds: Sequence[type[ServerEvent]]) -> dict[str, object]:
    return {
        "action": "send",
        "channel": _CHANNEL_REF,
        "summary": "What the server tells the user's connections.",
        "messages": _in_channel(kinds),
    }


def _in_channel(kinds: Sequence[type[msgspec.Struct]]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{CHANNEL}/messages/{kind.__name__}"} for kind in kinds]


def _message(kind: type[msgspec.Struct]) -> dict[str, object]:
    example = EXAMPLES.get(kind)
    return {
        "name": str(kind.__struct_config__.tag),
        "title": kind.__name__,
        "summary": _summary(kind),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "examples": [{"payload": sent_fields(example)}] if example else [],
    }


def _summary(kind: type[msgspec.Struct]) -> str:
    return markdown(kind.__doc__ or "").partition("\n")[0]


def _error_codes() -> dict[str, object]:
    return {
        code: {"retryable": kind.retryable, "status": kind.status}
        | ({"close": kind.close} if kind.close else {})
        for code, kind in ERRORS.items()
    }


def _close_codes() -> dict[str, object]:
    """44xx: come back; 45xx: do not."""
    closing = {
        str(kind.close): {"error": code, "reconnect": kind.close < FIRST_FINAL_CODE}
        for code, kind in ERRORS.items()
        if kind.close
    }
    by_layer = {
        str(code): {"reason": reason, "reconnect": False}
        for code, reason in CLOSED_BY_LAYER.items()
    }
    return dict(sorted((closing | by_layer).items()))
