from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server import client_connection
from chat_server.client import Client, ConnectionLost, Event, ServerError, Unreachable, Welcome
from chat_server.client_connection import (
    LONGEST_PAUSE_S,
    MAX_OUTGOING,
    SHORTEST_PAUSE_S,
    Connection,
    pause_s,
    websocket_address,
)
from chat_server.client_errors import ClientError, TooMuchWaiting
from chat_server.client_runs import Frame
from chat_server.client_token import Token
from tests.chat_server.scripted_server import opened, scripted_server


class Nobody:
    leaving = False
    failure: ClientError | None = None

    def hello(self) -> Frame:
        return {}

    def connected(self, welcome: Welcome) -> None: ...

    def received(self, event: Event) -> None: ...

    def disconnected(self, reason: str, retry_in_s: float) -> None: ...


@given(attempt=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_pauses_grow_within_their_bounds(attempt: int, chance: float) -> None:
    assert SHORTEST_PAUSE_S <= pause_s(attempt, chance) <= LONGEST_PAUSE_S
    assert pause_s(attempt, chance) <= pause_s(attempt + 1, chance)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/ws"),
        ("https://chat.example/tandem/", "wss://chat.example/tandem/ws"),
        ("http://[::1]:80/?q=1#top", "ws://[::1]:80/ws"),
    ],
)
def test_the_websocket_stands_beside_the_pages(url: str, address: str) -> None:
    assert websocket_address(url) == address


@pytest.mark.parametrize("url", ["", "chat.example", "ftp://chat.example", "http://"])
def test_what_is_no_address_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address of a server"):
        websocket_address(url)


def test_what_waits_to_be_written_is_bounded() -> None:
    connection = Connection("http://127.0.0.1:1", Token("token"), Nobody())
    for _ in range(MAX_OUTGOING):
        connection.post({"type": "ping"})
    with pytest.raises(TooMuchWaiting):
        connection.post({"type": "ping"})


async def test_hello_carries_the_token_and_a_ping_is_answered() -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="secret")
        async with opened(client, server) as peer:
            assert peer.hello == {"type": "hello", "v": 1, "token": "secret", "client": "python"}
            await peer.send(type="ping")
            assert (await peer.receive())["type"] == "pong"
        assert client.user == "ana"


async def test_a_server_that_falls_silent_is_left_and_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_connection, "SILENCE_GRACE_S", 0.05)
    heard: list[Event | ConnectionLost] = []
    async with scripted_server() as server:
        server.welcome["heartbeat_s"] = 0.0
        client = Client(server.url, token="t", on_event=heard.append)
        async with opened(client, server):
            await server.peer()
    lost = [event for event in heard if isinstance(event, ConnectionLost)]
    assert "nothing came" in lost[0].reason
    assert lost[0].retry_in_s is not None


@pytest.mark.parametrize("code", [4501, 4505, 1009])
async def test_some_ends_are_for_good_and_said_in_the_servers_words(code: int) -> None:
    heard: list[Event | ConnectionLost] = []
    async with scripted_server() as server:
        client = Client(server.url, token="t", on_event=heard.append)
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            await peer.receive()
            await peer.send(type="error", code="forbidden", message="go away", retryable=False)
            await peer.close(code)
            with pytest.raises(ServerError, match="forbidden: go away"):
                await reply.result()
            with pytest.raises(ServerError, match="go away"):
                client.send("Please?")
            assert not client.online
    assert isinstance(heard[-1], ConnectionLost)
    assert heard[-1].retry_in_s is None


@pytest.mark.parametrize("code", [4400, 4408, 1012, 1006, 1000])
async def test_other_ends_are_followed_by_another_beginning(code: int) -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            if code == 1006:
                peer.socket.transport.abort()
            else:
                await peer.close(code)
            assert (await server.peer()).hello == peer.hello


async def test_an_unreadable_frame_costs_only_itself(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted_server() as server:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            await peer.socket.send("no JSON")
            await peer.send(type="ping")
            assert (await peer.receive())["type"] == "pong"
    assert "event.unreadable" in capsys.readouterr().out


async def test_a_refused_upgrade_is_final() -> None:
    async with scripted_server() as server:
        server.upgrade_status = 403
        with pytest.raises(ServerError, match="403"):
            async with Client(server.url, token="t"):
                pass


async def test_no_server_within_the_time_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chat_server.client.CONNECT_WITHIN_S", 0.5)
    async with scripted_server() as server:
        server.upgrade_status = 503
        with pytest.raises(Unreachable, match="503"):
            async with Client(server.url, token="t"):
                pass


def lost(heard: list[Event | ConnectionLost]) -> list[float | None]:
    return [event.retry_in_s for event in heard if isinstance(event, ConnectionLost)]


async def test_a_server_that_says_that_it_goes_is_left_without_a_pause() -> None:
    heard: list[Event | ConnectionLost] = []
    async with scripted_server() as server:
        client = Client(server.url, token="t", on_event=heard.append)
        async with opened(client, server) as peer:
            await peer.send(type="goaway", reason="restart", deadline_ms=5000)
            await peer.close(4400)
            again = await server.peer()
            await again.close(4400)
            await server.peer()
    first, second = lost(heard)[:2]
    assert first is not None
    assert second is not None
    assert first <= client_connection.AWAY_SPREAD_S
    assert second >= SHORTEST_PAUSE_S, "the next one did not say that it goes"


class Tokens:
    """A source of tokens that fails as often as it is told to."""

    def __init__(self, *given: str, failures: int = 0) -> None:
        self.given = list(given)
        self.failures = failures
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise OSError("no network")
        return self.given.pop(0) if len(self.given) > 1 else self.given[0]


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_token_that_has_ended_is_renewed(failures: int) -> None:
    tokens = Tokens("second", failures=failures)
    async with scripted_server() as server:
        client = Client(server.url, token="first", renew=tokens)
        async with opened(client, server) as peer:
            await peer.close(4401)
            again = await server.peer()
            if failures:
                assert again.hello["token"] == "first", "there was no other one yet"
                await again.close(4401)
                again = await server.peer()
            assert again.hello["token"] == "second"
            assert client.token == "second"
            with pytest.raises(ServerError):
                await client.search("dog")
            assert server.holders[-1] == "Bearer second"


async def test_a_new_token_that_is_refused_is_the_last() -> None:
    tokens = Tokens("second", "third")
    async with scripted_server() as server:
        client = Client(server.url, token="first", renew=tokens)
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            server.refuse_with = 4501
            await peer.close(4501)
            with pytest.raises(ServerError):
                await reply.result()
    assert tokens.asked == 1


async def test_without_another_token_the_end_is_final() -> None:
    tokens = Tokens("first")
    async with scripted_server() as server:
        client = Client(server.url, token="first", renew=tokens)
        async with opened(client, server) as peer:
            reply = client.send("Hello?")
            await peer.close(4501)
            with pytest.raises(ServerError):
                await reply.result()


async def test_events_that_are_missing_are_fetched_by_another_connection() -> None:
    async with scripted_server() as server:
        server.welcome |= {"epoch": "e1", "seq": 0, "resumed": False}
        client = Client(server.url, token="t")
        async with opened(client, server) as peer:
            conversation = {"id": "c1", "title": "Hi", "created_at": 1.0, "updated_at": 1.0}
            await peer.send(type="conversation.updated", seq=1, conversation=conversation)
            await peer.send(type="conversation.updated", seq=3, conversation=conversation)
            again = await server.peer()
            assert again.hello["resume"] == {"epoch": "e1", "seq": 1}
