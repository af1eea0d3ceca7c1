"""What the model is asked: persona, memories, window, message, within a token budget."""

from __future__ import annotations

from typing import Literal

import msgspec

from memory.messages import Message
from memory.recalled import Recalled


class PromptMessage(msgspec.Struct, frozen=True):
    """One entry of an OpenAI ``messages`` list."""

    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt as the model gets it, and the parts it was made of.

    ``messages`` is what a language model is sent. ``question``, ``memories`` (best first) and
    ``window`` (oldest first, without the question) serve the offline responder.
    """

    messages: tuple[PromptMessage, ...]
    question: str
    memories: tuple[Recalled, ...]
    window: tuple[Message, ...]
