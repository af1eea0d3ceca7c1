"""The body of an HTTP request, read and checked."""

from __future__ import annotations

from typing import Final, TypeVar

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request

from chat_server.errors import ChatError

MAX_BODY_BYTES: Final = 4_096
BODY_WITHIN_S: Final = 10.0

_Body = TypeVar("_Body", bound=msgspec.Struct)


async def read_body(request: Request, kind: type[_Body]) -> _Body:
    """The body as *kind*, of ``MAX_BODY_BYTES`` at most.

    Raises:
        ChatError: ``bad_request``, with what is wrong; ``slow_client``, when it does not come
            within ``BODY_WITHIN_S``, or not to its end.
    """
    raw = b""
    try:
        with anyio.fail_after(BODY_WITHIN_S):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > MAX_BODY_BYTES:
                    raise ChatError(
                        "bad_request", f"the body has more than {MAX_BODY_BYTES:,} bytes"
                    )
    except TimeoutError as slow:
        raise ChatError("slow_client", f"no body within {BODY_WITHIN_S:.0f} s") from slow
    except ClientDisconnect as left:  # who is told no more
        raise ChatError("slow_client", "the connection ended before the body did") from left
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        fields = ", ".join(f"`{name}`" for name in kind.__struct_fields__)
        raise ChatError("bad_request", f"the body is a JSON object with {fields}") from error
