from __future__ import annotations

from typing import Any, cast

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.commands import PIECE_CHARS, Commands, _deltas
from chat_server.errors import ChatError
from chat_server.events import ServerEvent
from chat_server.frames import frame_of
from chat_server.protocol import Attach, Stop
from chat_server.state import State
from chat_server.switchboard import Switchboard
from memory.messages import RunId
from tests.chat_server.twin_world import TwinWorld, twin_world


def commands_of(world: TwinWorld) -> Commands:
    desk = world.desk
    state = {
        "runs": desk.runs,
        "late": desk.late,
        "memory": desk.memory,
        "switchboard": Switchboard(world.turns, desk.runs, desk.memory),
    }
    return Commands(cast("State", state), world.identity)


async def attached(world: TwinWorld, run: str, offset: int = 0) -> list[dict[str, Any]]:
    answers: list[ServerEvent] = []
    await commands_of(world).attach(Attach(id="a", run=run, offset=offset), answers.append)
    return [msgspec.to_builtins(answer) for answer in answers]


async def test_of_a_live_reply_what_follows_the_offset_comes_and_what_was_remembered_again() -> (
    None
):
    async with twin_world() as world:
        world.model.rest = anyio.Event()
        run = (await world.take("Hello"))["run"]
        await world.until(lambda frame: frame["type"] == "run.delta")
        text = world.desk.runs.find(world.user, run)
        assert text is not None
        ok, memories, delta = await attached(world, run, offset=3)
        assert (ok["type"], memories["type"]) == ("ok", "run.memories")
        assert (delta["offset"], delta["text"]) == (3, text.text[3:])
        beyond = await attached(world, run, offset=1000)
        assert [frame["type"] for frame in beyond] == ["ok", "run.memories"]


async def test_of_a_reply_that_ended_the_end_comes_again_without_a_place() -> None:
    async with twin_world() as world:
        done = await world.ask("Hello")
        ok, again = await attached(world, done["run"], offset=2)
        assert ok == {"type": "ok", "re": "a"}
        assert "seq" not in again
        for field in ("run", "conversation", "status", "message", "chars", "sha256"):
            assert again[field] == done[field]


async def test_a_run_of_nobody_or_of_somebody_else_is_unknown() -> None:
    async with twin_world() as world:
        run = (await world.ask("Hello"))["run"]
        for command in (
            commands_of(world).attach(Attach(id="a", run="rnone"), lambda _event: None),
            commands_of(world).stop(Stop(id="s", run="r" + "a" * 26), lambda _event: None),
        ):
            with pytest.raises(ChatError) as refused:
                await command
            assert (refused.value.code, refused.value.field) == ("unknown_run", "run")
        answers: list[ServerEvent] = []
        await commands_of(world).stop(Stop(id="s", run=run), answers.append)
        assert msgspec.to_builtins(answers) == [{"type": "ok", "re": "s"}]


@given(st.text("aé👍\u200d\0", max_size=60), st.integers(0, 70), st.integers(1, 7))
def test_replayed_pieces_are_the_text_in_frames_of_less_than_64_kib(
    some: str, offset: int, times: int
) -> None:
    text = some * times * 200
    pieces = list(_deltas(RunId("r"), text, offset))
    assert "".join(piece.text for piece in pieces) == text[offset:]
    at = offset
    for piece in pieces:
        assert piece.offset == at
        assert len(piece.text) <= PIECE_CHARS
        assert len(frame_of(piece)) < 65_536
        at += len(piece.text)
