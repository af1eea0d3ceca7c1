"""The body of an HTTP request, read and checked."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from starlette.requests import Request

from chat_server.errors import ChatError

MAX_BODY_BYTES: Final = 4_096

_Body = TypeVar("_Body", bound=msgspec.Struct)


async def read_body(request: Request, kind: type[_Body]) -> _Body:
    """The body as *kind*, of ``MAX_BODY_BYTES`` at most.

    Raises:
        ChatError: ``bad_request``, with what is wrong.
    """
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise ChatError("bad_request", f"the body has more than {MAX_BODY_BYTES:,} bytes")
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        fields = ", ".join(f"`{name}`" for name in kind.__struct_fields__)
        raise ChatError("bad_request", f"the body is a JSON object with {fields}") from error
