"""The rate limit as users meet it, and how long short-term memory lasts."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.integration.bot import bot
from tests.integration.running_server import running_server
from tests.integration.test_faults import redis_of
from tests.stub_model import StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]


async def test_the_limit_says_when_it_frees_and_then_it_does(
    data_dir: Path, stub: StubModel, model_environment: dict[str, str]
) -> None:
    environment = {
        **model_environment,
        "TANDEM_LIMITS__PER_USER": "3",
        "TANDEM_LIMITS__WINDOW_S": "3",
    }
    with running_server(data_dir, environment) as server:
        server.wait_ready()
        token = server.session()
        async with bot(server.url, token) as client:
            assert client.welcome["limits"]["user"] == {
                "limit": 3,
                "remaining": 3,
                "reset_ms": 0,
            }
            for n in range(3):
                await client.ask(f"Message {n}")
            left = [
                frame["user"]["remaining"] for frame in client.frames if frame["type"] == "limits"
            ]
            assert left == [2, 1, 0]
            refused = await client.say("One too many.", id="late")
            assert (refused["code"], refused["retryable"]) == ("rate_limited", True)
            assert 0 < refused["retry_after_ms"] <= 3000
            async with bot(server.url, token) as again:
                assert again.welcome["limits"]["user"]["remaining"] == 0
            async with bot(server.url, server.session()) as other:
                assert (await other.say("Others are free."))["type"] == "accepted"
            await anyio.sleep(refused["retry_after_ms"] / 1000)
            assert (await client.say("One too many.", id="late"))["type"] == "accepted"
        metrics = server.get("/metrics", token).text
        assert 'tandem_rate_limit_rejections_total{scope="user"} 1.0' in metrics


@pytest.mark.parametrize("active_within_s", [86_400, 3_600])
async def test_a_window_lasts_an_hour_for_who_was_away_and_a_day_for_who_is_active(
    data_dir: Path,
    stub: StubModel,
    model_environment: dict[str, str],
    active_within_s: int,
) -> None:
    environment = {**model_environment, "TANDEM_REDIS__ACTIVE_WITHIN_S": str(active_within_s)}
    with running_server(data_dir, environment) as server:
        server.wait_ready()
        store = redis_of(data_dir)

        def window_life_s() -> float:
            (key,) = store.keys("chat:*window*")
            return float(store.pttl(key)) / 1000

        async with bot(server.url, server.session()) as client:
            await client.ask("The first message ever.", conversation="life")
            assert 3_590 < window_life_s() <= 3_600
            await client.ask("The next one.", conversation="life")
            assert 86_390 < window_life_s() <= 86_400

            (seen,) = store.keys("chat:*last_active")
            two_hours_us = 7_200 * 1_000_000
            store.decrby(seen, two_hours_us)
            await client.ask("Back after two hours.", conversation="life")
            returns_active = active_within_s > 7_200
            expected = 86_400 if returns_active else 3_600
            assert expected - 10 < window_life_s() <= expected
        assert all(store.pttl(key) > 0 for key in store.keys("*")), "everything expires"
