"""The contract of what writes replies."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from chat_server.prompt import Prompt


class ReplyText(msgspec.Struct, frozen=True):
    """The next piece of a reply; never empty."""

    text: str


class ReplyEnd(msgspec.Struct, frozen=True):
    """The reply is complete. ``finish_reason`` as in OpenAI's API: ``stop``, ``length``, ...

    Token counts are ``None`` where the server does not report them.
    """

    finish_reason: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class ReplyModel(Protocol):
    """Writes replies, piece by piece."""

    @property
    def name(self) -> str:
        """What wrote the reply, as clients see it; ``offline`` for the offline responder."""
        ...

    def stream(self, prompt: Prompt) -> AsyncGenerator[ReplyText | ReplyEnd, None]:
        """The reply to *prompt*; the request is sent when the first piece is asked for.

        A complete reply ends with exactly one ``ReplyEnd``. Close the generator
        (``contextlib.aclosing``) to end the request early; cancelling does likewise.

        Raises:
            ModelFailed: at any point; the pieces before it stand.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
