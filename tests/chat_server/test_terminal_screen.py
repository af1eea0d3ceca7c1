from __future__ import annotations

import pytest

from chat_server.client import Memory, Result
from chat_server.client_values import ErrorFacts, Message
from chat_server.terminal_screen import Screen, harmless, shortened


def result(**more: object) -> Result:
    facts = {"text": "Hi", "status": "completed", "model": "m", "message": "r", **more}
    return Result(conversation="c", **facts)  # type: ignore[arg-type]  # fields of the test's choice


def test_what_a_terminal_would_obey_is_taken_out() -> None:
    assert harmless("a\x1b]0;title\x07b\x9b31m\tc\nd\r\x7f") == "a]0;titleb31m\tc\nd"
    assert shortened("two\n  lines \x1b[2J", 20) == "two lines [2J"
    assert shortened("x" * 30, 10) == "x" * 9 + "…"


def test_pieces_stand_side_by_side_and_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(interactive=False)
    for piece in ("[bold]no", " markup[/bold]", " :smile: " + "long " * 60):
        screen.piece(piece)
    screen.ended(result())
    assert capsys.readouterr().out == "[bold]no markup[/bold] :smile: " + "long " * 60 + "\n"


def test_through_a_pipe_only_replies_come_out_and_problems_go_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(interactive=False)
    screen.note("by the way")
    screen.memories([Memory(id="m", text="My boat")])
    screen.piece("Sorry.")
    screen.ended(result(model="offline", error=ErrorFacts("model_timeout", "too late")))
    with screen.countdown() as show:
        show("sending again in 3 s")
    said = capsys.readouterr()
    assert said.out == "Sorry.\n"
    assert said.err == "too late\n"


def test_at_a_terminal_notes_stand_among_the_replies(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(interactive=True)
    screen.memories([Memory(id=str(n), text=f"Memory {n}") for n in range(5)])
    screen.piece("Hello.")
    screen.ended(result(model="offline"))
    screen.piece("Wrong")
    screen.ended(result(text="Right", corrected=True, stored=False))
    assert capsys.readouterr().out.splitlines() == [
        "remembered: Memory 0 · Memory 1 · Memory 2 · and 2 more",
        "Hello.",
        "no language model is connected: answered from memory",
        "Wrong",
        "what holds of this reply:",
        "Right",
        "this reply could not be stored",
    ]


def test_a_reply_that_waits_and_a_question_without_one_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(interactive=True)
    screen.piece("Hello.")
    screen.ended(result(stored=False, kept=True))
    screen.message(Message(id="m", role="user", text="Hm?", timestamp=1.0, reply="interrupted"))
    assert capsys.readouterr().out.splitlines() == [
        "Hello.",
        "not stored yet: the server keeps it until it can be",
        "> Hm?",
        "interrupted before it was answered",
    ]
