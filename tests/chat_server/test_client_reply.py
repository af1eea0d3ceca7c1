from __future__ import annotations

import hashlib
from itertools import pairwise
from random import Random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.client_errors import NoAnswer, ServerError
from chat_server.client_events import Accepted, Message, RunDelta, RunDone
from chat_server.client_reply import Reply


async def no_stop(_reply: Reply) -> None:
    raise AssertionError("nobody stops here")


def new_reply(*, accepted: bool = True) -> Reply:
    reply = Reply("id", {}, no_stop)
    if accepted:
        reply.accept(Accepted(re="id", message="m", conversation="c", run="r"))
    return reply


def delta(offset: int, text: str) -> RunDelta:
    return RunDelta(run="r", offset=offset, text=text)


def done(text: str, **more: object) -> RunDone:
    message = Message(id="r", role="assistant", text=text, timestamp=1.0)
    facts = {"chars": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest(), **more}
    return RunDone(
        run="r",
        conversation="c",
        status="completed",
        message=message,
        chars=int(str(facts["chars"])),
        sha256=str(facts["sha256"]),
    )


@given(
    text=st.text(max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_pieces_in_any_order_and_any_number_of_times_give_the_text_or_a_known_gap(
    text: str, cuts: list[int], order: Random
) -> None:
    ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    deltas = [delta(begin, text[begin:end]) for begin, end in pairwise(ends)]
    shuffled = [*deltas, *deltas]
    order.shuffle(shuffled)
    reply = new_reply()
    for piece in shuffled:
        reply.add(piece)
    assert text.startswith(reply.text)
    assert reply.behind or reply.text == text
    reply.catch_up(text)
    assert (reply.text, reply.behind) == (text, False)


async def test_the_iteration_begins_at_the_beginning_and_ends_with_the_reply() -> None:
    reply = new_reply()
    reply.add(delta(0, "Well"))
    pieces: list[str] = []
    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            pieces.extend([piece async for piece in reply])

        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        reply.add(delta(4, ", hello"))
        await anyio.wait_all_tasks_blocked()
        reply.finish(done("Well, hello."))
    assert pieces == ["Well", ", hello", "."]
    assert [piece async for piece in reply] == ["Well, hello."], "a second reader gets it all"
    assert not (await reply.result()).corrected


async def test_what_was_lost_and_made_anew_in_the_same_words_is_not_repeated() -> None:
    reply = new_reply()
    reply.begin("stub")
    reply.add(delta(0, "One two"))
    pieces = reply.__aiter__()
    assert await anext(pieces) == "One two"
    reply.begin("stub")
    reply.add(delta(0, "One"))
    reply.add(delta(3, " two three"))
    assert await anext(pieces) == " three"
    reply.finish(done("One two three"))
    assert [piece async for piece in pieces] == []
    assert not (await reply.result()).corrected


async def test_what_was_made_anew_in_other_words_is_void_and_said_to_be() -> None:
    reply = new_reply()
    reply.add(delta(0, "One two"))
    pieces = reply.__aiter__()
    assert await anext(pieces) == "One two"
    reply.begin("stub")
    reply.add(delta(0, "Completely different"))
    reply.finish(done("Completely different."))
    assert [piece async for piece in pieces] == []
    result = await reply.result()
    assert (result.text, result.corrected) == ("Completely different.", True)


async def test_a_copy_that_says_more_than_was_stored_is_cut() -> None:
    reply = new_reply()
    reply.add(delta(0, "More than was stored"))
    reply.finish(done("More"))
    result = await reply.result()
    assert (result.text, result.corrected, reply.text) == ("More", True, "More")


async def test_a_wrong_digest_is_logged_and_the_servers_text_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reply = new_reply()
    reply.finish(done("Text", sha256="0" * 64))
    assert (await reply.result()).text == "Text"
    assert "reply.digest_differed" in capsys.readouterr().out


async def test_a_refusal_reaches_everybody_who_waits() -> None:
    reply = new_reply(accepted=False)
    reply.fail(ServerError("busy", "wait", retryable=True))
    for waiting in (reply.accepted(), reply.result(), anext(reply.__aiter__())):
        with pytest.raises(ServerError):
            await waiting


async def test_nothing_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoAnswer):
        await new_reply(accepted=False).accepted(within_s=0.01)
    monkeypatch.setattr("chat_server.client_reply.SILENT_AT_MOST_S", 0.01)
    with pytest.raises(NoAnswer):
        await new_reply().result()
    with pytest.raises(NoAnswer):
        await anext(new_reply().__aiter__())
