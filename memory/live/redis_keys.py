"""The broker's keys in Redis."""

from __future__ import annotations

from memory.live.broker import NodeId
from memory.messages import UserId, user_key


class Keys:
    """Beside the keys of short-term memory, with the encoded user as hash tag likewise::

    chat:{user}:place        hash    epoch and seq of the last durable event; what is kept
    chat:{user}:events       stream  those events, "<seq>-0"
    chat:{user}:nodes        zset    nodes that the user is connected to, until when (s)
    chat:{user}:runs         hash    run -> facts
    chat:{user}:run:<run>    string  its text so far
    chat:{user}:lane:<conv>  string  "<node> <claim>" of who sees to the conversation
    chat:{user}:sent:<id>    string  a message's id that was claimed for
    chat:{/nodes}:alive      zset    nodes, time of their last beat (us)
    chat:{/nodes}:generation string  names what Redis holds; gone with it
    chat:{/nodes}:runs:<node> hash   run -> facts
    chat:{/nodes}:users:<node> zset  who spoke to it of late, when (s)
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._nodes = f"{prefix}{{/nodes}}"  # no encoded user has a slash
        self.channel = f"{prefix}post:"
        """What comes before a node's name, or ``*``, in the name of a channel."""
        self.alive = f"{self._nodes}:alive"
        self.generation = f"{self._nodes}:generation"

    def of(self, user: UserId, part: str) -> str:
        """One of *user*'s keys."""
        return f"{self._prefix}{{{user_key(user)}}}:{part}"

    def users_of(self, node: NodeId) -> str:
        """Who spoke to *node* of late."""
        return f"{self._nodes}:users:{node}"

    def runs_of(self, node: NodeId) -> str:
        """The runs that *node* makes."""
        return f"{self._nodes}:runs:{node}"
