from __future__ import annotations

import pytest

from memory.live.broker import NodeId
from memory.live.in_process_broker import Hub, InProcessBroker
from tests.contracts.broker import BrokerContract


class TwinWorld:
    def __init__(self) -> None:
        self.hub = Hub()
        self._passed_s = 0.0
        clock = self.hub.clock
        self.hub.clock = lambda: clock() + self._passed_s

    def open(self, node: NodeId) -> InProcessBroker:
        return InProcessBroker(self.hub, node)

    async def lose_all(self) -> None:
        self.hub.flush()

    async def let_pass(self, seconds: float) -> None:
        self._passed_s += seconds

    def break_off(self) -> None:
        self.hub.away = True


@pytest.fixture
async def world() -> TwinWorld:
    return TwinWorld()


class TestContract(BrokerContract):
    pass
