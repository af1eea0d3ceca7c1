"""The token that says who a client is: when it ends, and how the next one is got."""

from __future__ import annotations

import base64
import binascii
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import msgspec
import structlog

from chat_server.client_errors import ClientError, Unreachable

log = structlog.get_logger(__name__)

RENEW_WITHIN_S: Final = 30.0
RENEW_BEFORE_S: Final = 60.0
"""So long before its end a token is renewed, or when half of what is left of it has passed."""
RENEW_PAUSE_S: Final = 10.0
MAX_PAYLOAD_BYTES: Final = 4096

Renew = Callable[[], Awaitable[str]]
"""Gives a new token of the same user. May raise ``ClientError`` or ``OSError`` when none can be had
now: then it is asked again later.
"""


class _Payload(msgspec.Struct, frozen=True):
    e: float | None = None


def ends_at(token: str) -> float | None:
    """When *token* ends, in seconds since the epoch, if it says so; it is not checked here."""
    said = token.lstrip(".").partition(".")[0]
    try:
        payload = base64.urlsafe_b64decode(said + "=" * (-len(said) % 4))
        if token.startswith("."):  # compressed, where that makes it shorter
            payload = zlib.decompressobj().decompress(payload, MAX_PAYLOAD_BYTES)
        return msgspec.json.decode(payload, type=_Payload).e
    except (binascii.Error, ValueError, zlib.error, msgspec.DecodeError):
        return None


class Token:
    """The token that holds now; *renew* gives the next one, where there is a next one."""

    def __init__(self, value: str, renew: Renew | None = None) -> None:
        self.value = value
        self.renewable = renew is not None
        self._renew = renew
        self._changed = anyio.Event()

    async def renew(self) -> bool:
        """Get the next token, within ``RENEW_WITHIN_S``; false if it is the same.

        Raises:
            Unreachable: none can be had now.
        """
        if self._renew is None:
            return False
        try:
            with anyio.fail_after(RENEW_WITHIN_S):
                value = await self._renew()
        except (ClientError, OSError) as fault:  # a time-out is an OSError
            log.warning("token.not_renewed", reason=type(fault).__name__)
            raise Unreachable("there is no new token now") from fault
        if value == self.value:
            return False
        self.value = value
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        log.info("token.renewed")
        return True

    async def keep(self, told: Callable[[str], None]) -> None:
        """Renew the token before it ends, until cancelled; *told* hears each new one."""
        while True:
            ends = ends_at(self.value) if self.renewable else None
            if ends is None:
                await self._changed.wait()
                continue
            left_s = ends - time.time()
            with anyio.move_on_after(left_s - min(RENEW_BEFORE_S, left_s / 2)) as waiting:
                await self._changed.wait()
            if waiting.cancelled_caught:
                try:
                    if await self.renew():
                        told(self.value)
                except Unreachable:
                    pass  # it is asked again, at the latest when the server refuses the old one
                await anyio.sleep(RENEW_PAUSE_S)
