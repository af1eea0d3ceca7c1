"""What handlers work with: contract types, no back ends."""

from __future__ import annotations

from typing import TypedDict

from chat_server.authentication import AdminGuard, Authenticator
from chat_server.connections import Connections
from chat_server.fanout import Fanout
from chat_server.late_replies import LateReplies
from chat_server.metrics import Metrics
from chat_server.rate_limit import RateLimiter
from chat_server.readiness import Readiness
from chat_server.runs import Runs
from chat_server.settings import Settings
from chat_server.switchboard import Switchboard
from chat_server.turn import Turns
from chat_server.workforce import Workforce
from memory.dual_memory import DualMemory
from memory.upkeep.erasure_door import ErasureDoor


class State(TypedDict):
    """The lifespan's state; ``request.state`` and ``websocket.state`` hold it."""

    settings: Settings
    model_name: str
    authenticator: Authenticator
    admin: AdminGuard
    memory: DualMemory
    limiter: RateLimiter
    turns: Turns
    switchboard: Switchboard
    runs: Runs
    late: LateReplies
    erasures: ErasureDoor
    fanout: Fanout
    connections: Connections
    readiness: Readiness
    metrics: Metrics
    workforce: Workforce
