from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from chat_server.client_events import RunDelta, RunDone, RunStarted
from chat_server.client_runs import LOST, Asked, RunState, digest
from chat_server.client_values import DELETED, Memory, Message, Place


def done(text: str, *, seq: int = 1, sha256: str | None = None) -> RunDone:
    return RunDone(
        run="r",
        seq=seq,
        conversation="c",
        status="completed",
        message=Message(id="r", role="assistant", text=text, timestamp=1.0),
        chars=len(text),
        sha256=sha256 or digest(text),
        timings_ms={"total": 1.0} if seq else {},
    )


def started() -> RunStarted:
    return RunStarted(run="r", conversation="c", message="m", model="stub")


@given(
    text=st.text(max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_pieces_in_any_order_and_any_number_of_times_give_a_beginning_of_the_text(
    text: str, cuts: list[int], order: Random
) -> None:
    ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    deltas = [
        RunDelta(run="r", offset=begin, text=text[begin:end]) for begin, end in pairwise(ends)
    ]
    shuffled = [*deltas, *deltas]
    order.shuffle(shuffled)
    run = RunState("r")
    for piece in shuffled:
        fits = piece.offset <= len(run.text)
        assert run.add(piece) == fits
        assert text.startswith(run.text)
    assert run.finish(done(text))
    assert (run.text, run.corrected) == (text, False)


def test_a_copy_that_says_more_than_was_stored_is_cut() -> None:
    run = RunState("r")
    run.add(RunDelta(run="r", offset=0, text="More than was stored"))
    assert run.finish(done("More"))
    assert (run.text, run.corrected) == ("More", True)


def test_a_wrong_digest_is_said_and_the_servers_text_taken() -> None:
    run = RunState("r")
    assert not run.finish(done("Text", sha256="0" * 64))
    assert run.text == "Text"


def test_a_lone_surrogate_has_a_digest() -> None:
    assert len(digest("\ud800")) == 64


def test_an_end_that_is_told_again_takes_nothing_away() -> None:
    run = RunState("r")
    run.finish(done("Text"))
    run.finish(done("Text", seq=0))
    assert run.done is not None
    assert run.done.timings_ms


def test_beginning_in_the_same_place_twice_is_no_new_beginning() -> None:
    run = RunState("r")
    run.begin(started(), Place("e", 1))
    run.add(RunDelta(run="r", offset=0, text="One"))
    run.begin(started(), Place("e", 1))
    assert run.text == "One"
    run.begin(started(), Place("e", 2))
    assert run.text == ""


def test_each_of_several_voids_counts() -> None:
    run = RunState("r")
    for place, text in enumerate(("abc", "abd", "ab"), start=1):
        run.begin(started(), Place("e", place))
        run.add(RunDelta(run="r", offset=0, text=text))
    run.finish(done("abcde"))
    assert run.corrected, "abd was shown"


def test_a_lost_reply_that_begins_is_made_anew() -> None:
    run = RunState("r")
    run.add(RunDelta(run="r", offset=0, text="One"))
    run.status = LOST
    run.begin(started(), Place("e", 5))
    assert (run.text, run.status) == ("", "running")


def test_only_a_message_says_that_it_comes_again() -> None:
    send = Asked({"type": "send", "id": "a", "text": "Hi"})
    assert "retry" not in send.outgoing()
    assert send.outgoing()["retry"] is True
    stop = Asked({"type": "stop", "id": "b", "run": "r"}, posted=True)
    assert "retry" not in stop.outgoing()


def test_a_lost_reply_that_speaks_is_made_anew() -> None:
    run = RunState("r")
    run.add(RunDelta(run="r", offset=0, text="One two"))
    run.status = LOST
    assert not run.add(RunDelta(run="r", offset=4, text="three")), "its beginning is another one"
    assert run.text == ""
    assert run.add(RunDelta(run="r", offset=0, text="One and three"))
    run.finish(done("One and three"))
    assert run.corrected


def left_of_it() -> Message:
    return Message(id="r", role="assistant", text="", timestamp=1.0, status=DELETED)


def test_a_deleted_reply_has_no_words_and_gets_none() -> None:
    run = RunState("r")
    run.memories = (Memory(id="m1", text="Secret"),)
    run.finish(done("Secret"))
    run.erase(left_of_it())
    for _ in range(2):
        assert (run.text, run.status) == ("", DELETED)
        assert not run.memories
        assert "Secret" not in repr(run.done)
        assert digest("Secret") not in repr(run.done)
        assert run.finish(done("Secret", seq=0))
        run.begin(started(), Place("e", 9))
        assert run.add(RunDelta(run="r", offset=0, text="Secret"))


def test_a_reply_that_is_deleted_before_its_end_was_told_ends_without_words() -> None:
    run = RunState("r")
    run.add(RunDelta(run="r", offset=0, text="Sec"))
    run.erase(left_of_it())
    assert not run.over, "its end is still asked for"
    run.add(RunDelta(run="r", offset=0, text="Secret"))
    assert run.finish(done("Secret"))
    assert run.over
    assert run.text == ""
    assert "Secret" not in repr(run.done)


def test_a_deleted_message_is_not_among_what_is_remembered() -> None:
    run = RunState("r")
    run.memories = (Memory(id="m1", text="Secret"), Memory(id="m2", text="Known"))
    run.forget_memory("m1")
    assert [memory.text for memory in run.memories] == ["Known"]
