"""Where a conversation goes on behind one of its messages."""

from __future__ import annotations

from memory.conversation_tree import Node, leaves_below
from memory.long_term import LongTermMemory
from memory.messages import ConversationId, Message, MessageId, UserId


async def branch_end(
    long_term: LongTermMemory, user: UserId, conversation: ConversationId, message: MessageId
) -> Message | None:
    """The last message on the branch of *message*, as it is stored now.

    That is the conversation's end if it lies on the way there, else the deepest message that
    follows it; itself if none does. ``None``: it is not stored in this conversation.

    Raises:
        StoreError: it cannot be read.
    """
    found = await long_term.by_ids(user, [message])
    if not found or found[0].conversation != conversation:
        return None
    below = {message: found[0]}
    depth: int | None = found[0].depth
    while depth is not None:
        page = await long_term.tree(user, conversation, depth=depth)
        below.update({each.id: each for each in page.messages})
        depth = page.depth
    nodes = [Node(each.id, each.parent, each.depth) for each in below.values()]
    leaves = [below[leaf] for leaf in leaves_below(nodes, message)]
    if len(leaves) > 1:
        end = await long_term.latest(user, conversation, limit=1)
        leaves = [leaf for leaf in leaves if leaf.id == end[-1].id] or leaves
    return max(leaves, key=lambda leaf: leaf.depth)
