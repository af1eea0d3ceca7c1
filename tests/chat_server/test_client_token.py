from __future__ import annotations

import time
from collections.abc import Iterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server import client_token
from chat_server.authentication import Authenticator, Identity
from chat_server.client_errors import Unreachable
from chat_server.client_token import Token, ends_at
from memory.messages import UserId


def made(expires_at: int | None) -> str:
    authenticator = Authenticator("a secret", guests=True)
    return authenticator.token(Identity(UserId("bot-1"), "Robot", expires_at))


def test_the_end_of_a_token_of_the_server_is_read() -> None:
    assert ends_at(made(1_900_000_000)) == 1_900_000_000
    assert ends_at(made(None)) is None


@given(st.text())
def test_any_other_token_says_nothing_of_its_end(token: str) -> None:
    assert ends_at(token) is None


async def test_the_next_token_is_asked_for_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_token, "RENEW_PAUSE_S", 0.0)
    ending = made(int(time.time()) + 2)
    tokens: Iterator[str | OSError] = iter([ending, OSError("no network"), made(None)])
    told: list[str] = []

    async def renew() -> str:
        given = next(tokens)
        if isinstance(given, OSError):
            raise given
        return given

    token = Token(ending, renew)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(token.keep, told.append)
            while not told:
                await anyio.wait_all_tasks_blocked()
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert told == [token.value]
    assert ends_at(token.value) is None


async def test_no_token_now_is_not_the_same_token() -> None:
    async def same() -> str:
        return "same"

    async def none_now() -> str:
        raise TimeoutError

    assert not await Token("same", same).renew()
    assert not await Token("same").renew()
    with pytest.raises(Unreachable):
        await Token("same", none_now).renew()
