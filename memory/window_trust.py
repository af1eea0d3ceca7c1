"""Which windows in short-term memory this process takes for whole."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from memory.messages import ConversationId, UserId

MAX_TRUSTED: Final = 50_000
MAX_DOUBTED: Final = 10_000

WindowKey = tuple[UserId, ConversationId]


class WindowTrust:
    """A window is trusted once this process has written it, until an append to it fails.

    Nothing in a window tells that it lacks a message: a server that was killed between its
    commit and its append leaves such a one behind. So one that was found is read anew from
    long-term memory, once. Forgetting an entry, because there are many, costs one more reading.
    """

    def __init__(self) -> None:
        self._trusted: OrderedDict[WindowKey, None] = OrderedDict()
        self._doubted: dict[WindowKey, None] = {}

    def trust(self, key: WindowKey) -> None:
        """This process wrote the window just now."""
        self._doubted.pop(key, None)
        self._trusted[key] = None
        self._trusted.move_to_end(key)
        if len(self._trusted) > MAX_TRUSTED:
            self._trusted.popitem(last=False)

    def doubt(self, key: WindowKey) -> None:
        """The window may lack a message."""
        self._trusted.pop(key, None)
        if len(self._doubted) < MAX_DOUBTED:
            self._doubted[key] = None

    def trusts(self, key: WindowKey) -> bool:
        """Whether the window may be used as it is."""
        return key in self._trusted

    def doubted(self) -> list[WindowKey]:
        """Windows that should be dropped, so that no other server takes them for whole."""
        return list(self._doubted)

    def dropped(self, key: WindowKey) -> None:
        """The doubted window is gone."""
        self._doubted.pop(key, None)
