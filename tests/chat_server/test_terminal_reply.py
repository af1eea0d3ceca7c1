from __future__ import annotations

import anyio.to_thread
import pytest
from anyio.from_thread import BlockingPortal

from chat_server.client import Client, ServerError
from chat_server.terminal_input import LineInput
from chat_server.terminal_reply import Speaking
from chat_server.terminal_screen import Screen
from tests.chat_server.scripted_server import opened, scripted_server


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("not_stored", "not stored yet; trying again"),
        ("store_unknown", "it is not certain that it is stored; trying again"),
        ("busy", "the server's words"),
    ],
)
async def test_what_is_repeated_here_is_not_asked_of_the_reader(
    code: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scripted_server() as server, BlockingPortal() as portal:
        client = Client(server.url, token="t")
        async with opened(client, server) as peer, anyio.create_task_group() as tasks:
            screen = Screen(interactive=False)
            speaking = Speaking(portal, client, LineInput(()), screen)

            async def say() -> None:
                with pytest.raises(ServerError, match="enough"):
                    await anyio.to_thread.run_sync(speaking.say, "Hi", "c1")

            tasks.start_soon(say)
            sent = await peer.receive()
            refusal = {"code": code, "message": "the server's words", "retryable": True}
            await peer.send(type="error", re=sent["id"], retry_after_ms=1, **refusal)
            again = await peer.receive()
            assert again["id"] == sent["id"]
            refusal = {"code": "forbidden", "message": "enough", "retryable": False}
            await peer.send(type="error", re=again["id"], **refusal)
    assert capsys.readouterr().err.splitlines() == [said]
