"""Scenes of one user: a token that ends, and a laptop that slept for too long."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import httpx

from chat_server.authentication import Authenticator, Identity
from memory.messages import UserId
from tests.chaos.fault import Fault, Place
from tests.chaos.wire_campaign import Ground, ground
from tests.chaos.wire_check import expected_reply
from tests.chaos.wire_copy import digest
from tests.chaos.wire_tab import TOKEN_EXPIRED, Tab

SECRET: Final = "the-secret-of-the-scenes-of-the-wire"
USER: Final = "laptop"
TOKEN_LIFE_S: Final = 2
WORDS: Final = 700
"""At 8 ms each: a reply that outlives two tokens."""
EVENTS: Final = 2_100
"""More than are kept for those who come back."""
AT_ONCE: Final = 16
WITHIN_S: Final = 60.0
LOOK_EVERY_S: Final = 0.02


def token(life_s: int = 3600) -> str:
    """A token of the user that ends in so many seconds."""
    identity = Identity(UserId(USER), None, int(time.time()) + life_s)
    return Authenticator(SECRET, guests=True).token(identity)


@asynccontextmanager
async def tabs(here: Ground, *made: str, life_s: int = 3600) -> AsyncIterator[list[Tab]]:
    """A tab for each token, all of them connected."""

    async def renew() -> str:
        return token(life_s)

    headers = {"Authorization": f"Bearer {token()}"}
    async with (
        httpx.AsyncClient(base_url=here.world.url, headers=headers, timeout=30) as http,
        anyio.create_task_group() as tasks,
    ):
        opened = [Tab(here.world.url, given, http, renew=renew) for given in made]
        for tab in opened:
            tasks.start_soon(tab.run)
        await until(lambda: all(tab.settled for tab in opened), "no connection")
        yield opened
        tasks.cancel_scope.cancel()


async def until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait until *holds*.

    Raises:
        AssertionError: it does not, in time.
    """
    with anyio.move_on_after(WITHIN_S):
        while not holds():
            await anyio.sleep(LOOK_EVERY_S)
    assert holds(), otherwise


async def say(tab: Tab, id_: str, text: str) -> str:
    """Say *text* from *tab*; the run that answers it."""
    frame = {"type": "send", "id": id_, "text": text, "conversation": "the-talk"}
    answer = await tab.ask(frame)
    assert answer["type"] == "accepted", answer
    return str(answer["run"])


async def all_have(opened: list[Tab], run: str, text: str) -> None:
    """Wait until every tab knows the end of *run*, and see that it is the whole of it."""
    await until(
        lambda: all(run in it.copy.replies and it.copy.replies[run].done for it in opened),
        "a tab does not know that the reply is over",
    )
    for tab in opened:
        assert digest(tab.copy.replies[run].text) == digest(expected_reply(text))
        assert tab.copy.complaints == []


def ending_token(place: Place) -> str:
    """Tokens end in the middle of a reply: 4401, a new token, and nothing is missing."""
    environment = {"TANDEM_AUTH__SECRET": SECRET}
    with ground(place.folder, place.model_folder, environment) as here:
        return anyio.run(_ending_token, here)


async def _ending_token(here: Ground) -> str:
    text = " ".join(f"word{number}🙂" for number in range(WORDS))
    async with tabs(here, token(TOKEN_LIFE_S), token(), life_s=TOKEN_LIFE_S) as opened:
        run = await say(opened[1], "long", text)
        await all_have(opened, run, text)
        short, long = opened
        assert short.closes[TOKEN_EXPIRED] >= 2, f"closed with {dict(short.closes)}"
        assert not long.closes, f"closed with {dict(long.closes)}"
        assert short.copy.counts.resumed == short.connections - 1
        return f"closed with 4401 {short.closes[TOKEN_EXPIRED]} times, resumed each time"


def sleeping_laptop(place: Place) -> str:
    """More happens than is kept while a laptop sleeps: it begins anew, and knows everything."""
    environment = {"TANDEM_AUTH__SECRET": SECRET}
    with ground(place.folder, place.model_folder, environment) as here:
        return anyio.run(_sleeping_laptop, here)


async def _sleeping_laptop(here: Ground) -> str:
    async with tabs(here, token(), token()) as opened:
        laptop, phone = opened
        first = await say(laptop, "before", "what was said before")
        await all_have(opened, first, "what was said before")
        laptop.sleep()
        missed = await say(phone, "meanwhile", "what was said meanwhile")
        await all_have([phone], missed, "what was said meanwhile")
        await rename(here, EVENTS)
        laptop.wake()
        await all_have(opened, missed, "what was said meanwhile")
        counts = laptop.copy.counts
        assert (counts.resumed, counts.begun_anew) == (0, 2), f"{counts}"
        last = await say(laptop, "after", "what was said after")
        await all_have(opened, last, "what was said after")
        assert laptop.copy.said == phone.copy.said
        assert (laptop.copy.epoch, laptop.copy.seq) == (phone.copy.epoch, phone.copy.seq)
        return f"{EVENTS} events missed, begun anew, everything there"


async def rename(here: Ground, times: int) -> None:
    """Have so many lasting events happen."""
    headers = {"Authorization": f"Bearer {token()}"}
    numbers = iter(range(times))

    async def some() -> None:
        for number in numbers:
            answer = await http.patch(
                "/api/conversations/the-talk", json={"title": f"Title {number}"}
            )
            answer.raise_for_status()

    async with (
        httpx.AsyncClient(base_url=here.world.url, headers=headers, timeout=30) as http,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(AT_ONCE):
            tasks.start_soon(some)


FAULTS: Final = (
    Fault("wire: a token ends during a reply", (23,), ending_token),
    Fault("wire: a laptop sleeps for too long", (15,), sleeping_laptop),
)
