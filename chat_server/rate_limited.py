"""The refusal of a message because a limit is spent."""

from __future__ import annotations

import math
from typing import Literal, assert_never

from chat_server.errors import ChatError
from memory.short_term import Allowance

Scope = Literal["user", "global"]


class RateLimited(ChatError):
    """A limit is spent: *scope* says whose, *allowance* what is left of it."""

    def __init__(self, scope: Scope, allowance: Allowance) -> None:
        seconds = max(1, math.ceil(allowance.reset_ms / 1_000))
        match scope:
            case "user":
                whose = "you have sent as many messages as one user may"
            case "global":
                whose = "the server has received as many messages as it may"
            case _:
                assert_never(scope)
        super().__init__(
            "rate_limited",
            f"{whose} for now; try again in {seconds} s",
            retry_after_ms=max(1, allowance.reset_ms),
        )
        self.scope: Scope = scope
        self.allowance = allowance


def whole_ms(seconds: float) -> int:
    """*seconds* as an allowance tells them: never too few ms, and none of the past."""
    return max(0, math.ceil(seconds * 1_000))
