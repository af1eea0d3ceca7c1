"""Stories with their ends stand in tests/conformance; here are those that nobody thought of."""

from __future__ import annotations

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.client_events import (
    Accepted,
    ConversationDeleted,
    ConversationGone,
    MessageDeleted,
    Refused,
    RunDelta,
    RunMemories,
    Unknown,
    Welcome,
)
from chat_server.client_runs import Asked
from chat_server.client_state import (
    MAX_ATTACHED,
    MAX_HELLO_RUNS,
    MAX_RUNS,
    ClientState,
)
from chat_server.client_values import DELETED, Memory, Message, Place
from tests.chat_server.broken_line import BrokenLine

ALPHABET = "ab\u00e9\u0301\u200d\U0001f468\U0001f469 "
MISHAPS = ("speak",) * 8 + ("deliver",) * 6 + ("hear",) * 3 + ("stray",) * 3 + (
    "begin", "ask", "ask", "finish", "cut", "connect", "connect", "forget", "reset",
    "later", "kill",
)  # fmt: skip
SETTLED = {"welcome", "accepted", "ok", "error", "reset"}
"""Frames that come in their place or not at all: they begin a connection, or answer a command."""


class Story:
    """One user, one client, and what befalls them; *number* says which, where there are several."""

    def __init__(self) -> None:
        self.line = BrokenLine()
        self.asked: list[str] = []
        self._number = count(1)
        self.line.connect(remembers=True)
        self.line.begin("r0")

    def befall(self, mishap: str, number: int) -> None:
        line = self.line
        match mishap:
            case "begin":
                line.begin(f"r{next(self._number)}")
            case "ask":
                self.asked.append(f"a{len(self.asked)}")
                line.client.ask(Asked({"type": "send", "id": self.asked[-1], "text": "Hi"}))
            case "speak" | "finish":
                self._go_on(number, finish=mishap == "finish")
            case "deliver":
                line.deliver(1 + number % 8)
            case "stray":
                self._stray(number)
            case "connect" | "forget" if not line.connected:
                line.connect(remembers=mishap == "connect")
            case _:
                act = {
                    "hear": line.hear,
                    "later": line.client.later,
                    "cut": line.cut,
                    "reset": line.lose_the_order,
                    "kill": line.kill,
                }.get(mishap)
                if act is not None:
                    act()
        line.flush()
        for held in line.client.runs.values():
            assert line.said(held.id, held.text), "a hole"

    def _go_on(self, number: int, *, finish: bool) -> None:
        """A reply says more, or ends."""
        live = [reply.run for reply in self.line.replies.values() if not reply.over]
        if live and finish:
            self.line.finish(live[number % len(live)])
        elif live:
            piece = "".join(ALPHABET[number % k] for k in range(1, 2 + number % 7))
            self.line.say(live[number % len(live)], piece)

    def _stray(self, number: int) -> None:
        """A frame is lost, doubled, or late; what is lost is a piece, or has a place."""
        down = self.line.down
        strays = [
            place
            for place, frame in enumerate(down)
            if frame["type"] not in SETTLED and (frame["type"] == "run.delta" or "seq" in frame)
        ]
        if not strays:
            return
        place = strays[number % len(strays)]
        if number % 3 == 0:
            down.pop(place)
        elif number % 3 == 1:
            down.insert(place, down[place])
        else:
            down.insert(place + 1 + number % 5, down.pop(place))

    def end(self) -> None:
        """The line is mended: every copy is exact, and everything asked for was done once."""
        self.line.mend()
        client = self.line.client
        assert not client.unanswered
        for run in client.runs.values():
            truth = self.line.replies.get(run.id)
            if truth is None:  # another client's, of a server that was killed
                assert run.status == "lost"
                continue
            assert (run.text, run.status) == (truth.text, "completed")
            assert not run.corrected or run.id in self.line.forgotten
        for id_ in self.asked:
            assert client.runs[f"r-{id_}"].over
            assert not client.owns(f"r-{id_}")
        assert client.mismatches == 0
        assert client.cursor == Place(f"e{self.line.epoch}", len(self.line.log))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(MISHAPS), st.integers(0, 1_000)), min_size=20, max_size=120)
)
def test_whatever_breaks_no_text_has_a_hole_and_in_the_end_every_copy_is_exact(
    mishaps: list[tuple[str, int]],
) -> None:
    story = Story()
    for mishap, number in mishaps:
        story.befall(mishap, number)
    story.end()


def welcomed(*, epoch: str = "e1") -> ClientState:
    state = ClientState()
    state.hello()
    state.take(Welcome(user="ana", epoch=epoch))
    state.outgoing.clear()
    return state


def test_more_replies_than_hello_may_name_are_asked_for_in_turn() -> None:
    state = welcomed()
    for number in range(MAX_HELLO_RUNS + MAX_ATTACHED + 10):
        state.take(RunDelta(run=f"r{number}", offset=0, text="Hi"))
    state.lost()
    named = state.hello()["runs"]
    assert isinstance(named, list)
    assert len(named) == MAX_HELLO_RUNS
    state.take(Welcome(user="ana", epoch="e1", resumed=True))
    assert len(state.outgoing) == MAX_ATTACHED
    assert state.waits
    state.later()
    asked = {str(frame["run"]) for frame in state.outgoing} | {point["run"] for point in named}
    assert asked == set(state.runs)
    assert not state.waits


def test_own_replies_are_named_first_and_never_forgotten() -> None:
    state = welcomed()
    state.take(RunDelta(run="stranger", offset=0, text="Hi"))
    state.ask(Asked({"type": "send", "id": "a", "text": "Hi"}))
    state.take(Accepted(re="a", message="m", conversation="c", run="mine"))
    for number in range(2 * MAX_RUNS):
        state.take(RunDelta(run=f"r{number}", offset=0, text="Hi"))
    assert len(state.runs) == MAX_RUNS
    assert state.owns("mine")
    assert "stranger" not in state.runs
    state.lost()
    named = state.hello()["runs"]
    assert isinstance(named, list)
    assert named[0] == {"run": "mine", "offset": 0}


def test_a_server_without_places_is_not_left() -> None:
    state = welcomed(epoch="")
    assert state.take(Unknown(seq=5))
    assert state.take(Unknown(seq=9))
    assert not state.leaving
    assert "resume" not in state.hello()


def test_a_lost_reply_in_a_deleted_conversation_is_not_made_again() -> None:
    state = welcomed()
    state.ask(Asked({"type": "send", "id": "a", "text": "Hi"}))
    state.take(Accepted(re="a", message="m", conversation="c", run="r"))
    state.take(ConversationDeleted(seq=1, conversation=ConversationGone("c")))
    state.lost()
    state.hello()
    state.take(Welcome(user="ana", epoch="e1", resumed=True))
    state.take(Refused(re="attach-r", code="unknown_run", message="no"))
    assert not state.waits
    assert not state.owns("r")


def test_a_deleted_message_is_not_quoted_by_what_was_remembered() -> None:
    state = welcomed()
    secret, known = Memory(id="m1", text="Secret"), Memory(id="m2", text="Known")
    state.take(RunMemories(run="r", items=(secret, known)))
    left = Message(id="m1", role="user", text="", timestamp=1.0, status=DELETED)
    state.take(MessageDeleted(seq=1, conversation="c", message=left))
    assert state.runs["r"].memories == (known,)
    assert state.told.messages["m1"] == ("c", left)
    assert "m1" not in state.runs
