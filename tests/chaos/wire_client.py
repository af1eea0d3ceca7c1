"""A tab that is the project's own client library, so that broken lines find its faults, too."""

from __future__ import annotations

from typing import Final

import anyio
import httpx
from anyio.abc import TaskGroup

from chat_server.client import Client, Reply, ServerError, Welcome
from chat_server.client_errors import ClientError
from chat_server.client_events import ConnectionLost, Event
from tests.chaos.fault import Fault, Place
from tests.chaos.wire_campaign import Campaign, ground, new_nonce
from tests.chaos.wire_copy import Copy, Frame, ReplyCopy, SaidCopy
from tests.chaos.wire_plan import plan_of_one
from tests.chaos.wire_run import AnyTab, TabMaker
from tests.chaos.wire_scenes import held
from tests.chaos.wire_tab import RETRY_S, SETTLED_WITHIN_S, Tab, Unanswered

RUNS: Final = 200
SHORT_RUNS: Final = 24


class ClientTab:
    """Knows what it has said itself, and the replies to that."""

    def __init__(self, url: str, token: str) -> None:
        self.copy = Copy()
        self.connections = 0
        self._url = url
        self._token = token
        self._client: Client | None = None
        self._tasks: TaskGroup | None = None
        self._entered = anyio.Event()
        self._followed = 0

    @property
    def settled(self) -> bool:
        return self._client is not None and self._client.online and not self._followed

    async def run(self) -> None:
        """Keep the client until cancelled; where it cannot begin, another one is tried."""
        while True:
            client = Client(self._url, token=self._token, on_event=self._heard)
            try:
                async with client, anyio.create_task_group() as tasks:
                    self._client, self._tasks = client, tasks
                    self._entered.set()
                    await anyio.sleep_forever()
            except ClientError as failure:
                if self._entered.is_set():
                    self.copy.complain("client", repr(failure))
            await anyio.sleep(RETRY_S)

    def _heard(self, event: Event | Welcome | ConnectionLost) -> None:
        self.connections += isinstance(event, Welcome)

    async def ask(self, frame: Frame) -> Frame:
        """Say it, or say it anew, until it is accepted."""
        await self._entered.wait()
        assert self._client is not None
        assert self._tasks is not None
        with anyio.move_on_after(SETTLED_WITHIN_S):
            while True:
                reply = self._say(self._client, frame)
                try:
                    accepted = await reply.accepted()
                except ServerError as refused:
                    if not refused.retryable:
                        return {"type": "error", "code": refused.code}
                    await anyio.sleep(RETRY_S)
                    continue
                talk, message = accepted.conversation, accepted.message
                if "text" in frame:
                    said = SaidCopy(message, talk, frame["text"], frame["id"])
                    self.copy.said[message] = said
                self._followed += 1
                self._tasks.start_soon(self._follow, reply, accepted.run)
                answer: Frame = {"type": "accepted", "message": message}
                return answer | {"conversation": talk, "run": accepted.run}
        raise Unanswered(f"{frame['type']} {frame['id']}")

    @staticmethod
    def _say(client: Client, frame: Frame) -> Reply:
        if frame["type"] == "edit":
            return client.edit(frame["message"], frame["text"], id=frame["id"])
        if frame["type"] == "regenerate":
            return client.regenerate(frame["message"], id=frame["id"])
        return client.send(frame["text"], id=frame["id"], conversation=frame["conversation"])

    async def _follow(self, reply: Reply, run: str) -> None:
        pieces = [piece async for piece in reply]
        result = await reply.result()
        shown = "".join(pieces)
        if shown != result.text and not result.corrected:
            self.copy.complain("cut", f"{run}: {len(shown)} of {len(result.text)} came in pieces")
        if result.corrected:
            self.copy.complain("contradicted", f"{run}: corrected, although nothing was killed")
        done = ReplyCopy(run, text=result.text, status=result.status, done=True)
        self.copy.replies[run] = done
        self._followed -= 1


def make_tab() -> TabMaker:
    """The first tab of each run is the client, the others are as they always are."""
    seen: set[str] = set()

    def make(url: str, token: str, http: httpx.AsyncClient) -> AnyTab:
        if token in seen:
            return Tab(url, token, http)
        seen.add(token)
        return ClientTab(url, token)

    return make


def client_lines(place: Place) -> str:
    """The client library on broken lines, watched by tabs on others."""
    nonce = new_nonce()
    seeds = range(SHORT_RUNS if place.short else RUNS)
    with ground(place.folder, place.model_folder) as here:
        campaign = Campaign(here, make_tab=make_tab())
        return held(anyio.run(campaign.run, [plan_of_one(seed, nonce) for seed in seeds]))


FAULTS: Final = (Fault("wire: the client library on broken lines", (15,), client_lines),)
