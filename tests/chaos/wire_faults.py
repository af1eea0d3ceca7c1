"""What can happen on a line between a client and the server, and when."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

Way = Literal["up", "down"]
"""``up``: from the client to the server."""

Action = Literal[
    "cut",  # both ends see the connection close, after the frame
    "torn",  # the same in the middle of the frame
    "reset",  # both ends get a TCP reset, instead of the frame
    "half_open",  # from this frame on nothing arrives any more, and nobody is told
    "stalled",  # the same in the frame's direction only
    "delay",  # the frame and all after it come later
    "throttle",  # from this frame on few bytes a second, for a while
    "drop",  # the frame never arrives, and the next ones do
    "duplicate",  # the frame arrives twice
    "split",  # from this frame on bytes come in odd pieces
]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
LOSSY: Final[frozenset[Action]] = frozenset({"drop"})
"""What TCP never does: what is missing at the end shows only after a new connection."""


class Moment(msgspec.Struct, frozen=True):
    """At the *nth* frame of *kind* (a frame's ``type``, or ``any``) that goes *way*, counted from 1
    for each connection.
    """

    way: Way
    kind: str
    nth: int = 1


class LineFault(msgspec.Struct, frozen=True):
    """*action* at a moment of the *connection*-th connection of a line, counted from 0.

    *amount*: ms for which new connections are refused (cut, torn, reset) or that a delay takes;
    bytes a second of a throttle; else nothing.
    """

    connection: int
    moment: Moment
    action: Action
    amount: int = 0
