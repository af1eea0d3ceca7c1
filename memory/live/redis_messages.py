"""What the broker's scripts answer and publish, read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from memory.live.broker import Event, Letter, NodeId, Position
from memory.messages import UserId


def position_in(answer: Sequence[Any]) -> Position:
    """The position that an answer begins with."""
    return Position(answer[0].decode(), answer[1])


def nodes_in(names: Sequence[bytes]) -> tuple[NodeId, ...]:
    """Names of nodes."""
    return tuple(NodeId(name.decode()) for name in names)


def read_message(message: bytes) -> Event | Letter:
    r"""What was published: ``E<node>\n<user>\n<epoch>\n<seq>\n<event>`` by a script, for a durable
    event, or ``L<node>\n<body>`` by a node.
    """
    sender, _, rest = message[1:].partition(b"\n")
    node = NodeId(sender.decode())
    if message[:1] == b"L":
        return Letter(node, rest)
    user, epoch, seq, payload = rest.split(b"\n", 3)
    place = Position(epoch.decode(), int(seq))
    return Event(UserId(unquote(user.decode())), place, payload, node)
