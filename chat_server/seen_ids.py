"""The ids that messages came under of late."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from memory.messages import UserId

SEEN_IDS: Final = 100_000


class SeenIds:
    """The ids that messages came under of late: one that comes again is looked up before anything
    is done for it.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[UserId, str], None] = OrderedDict()

    def note(self, user: UserId, client_id: str) -> bool:
        """Note an id; whether it was here before."""
        key = (user, client_id)
        if key in self._seen:
            self._seen.move_to_end(key)
            return True
        self._seen[key] = None
        if len(self._seen) > SEEN_IDS:
            self._seen.popitem(last=False)
        return False
