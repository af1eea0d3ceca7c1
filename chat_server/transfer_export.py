"""One export: a user's conversations as lines, a part of one in memory at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from chat_server.patience import insist
from chat_server.transfer_lines import encode_line, line_of
from memory.dual_memory import DualMemory
from memory.messages import Conversation, UserId

CONVERSATIONS_PER_READ: Final = 20_000
"""A page costs the store as much as all of them; so many take 10 MB."""


async def export_lines(memory: DualMemory, user: UserId) -> AsyncGenerator[bytes, None]:
    """All that *user* has said and was told, as lines, many at a time.

    The conversation that was updated longest ago comes first; of each, parents come before what
    follows them, and all branches are there. What is said meanwhile may be missing.

    Raises:
        StoreError: the store stayed away, or holds what is not ours.
    """
    before: str | None = None
    while True:
        page = await insist(
            partial(memory.conversations.page, user, limit=CONVERSATIONS_PER_READ, before=before)
        )
        for conversation in reversed(page.conversations):
            async for part in _conversation_lines(memory, conversation):
                yield part
        before = page.before
        if before is None:
            return


async def _conversation_lines(
    memory: DualMemory, conversation: Conversation
) -> AsyncGenerator[bytes, None]:
    opened: Conversation | None = conversation
    depth: int | None = 0
    while depth is not None:
        tree = partial(memory.long_term.tree, conversation.user, conversation.id, depth=depth)
        page = await insist(tree)
        lines = []
        for message in page.messages:
            lines.append(encode_line(line_of(message, opened)))
            opened = None
        if lines:
            yield b"".join(lines)
        depth = page.depth
