"""The checker of the wire accepts what may happen, and finds each kind of broken promise."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.chaos.wire_check import (
    Books,
    Kind,
    Stored,
    TabReply,
    TabState,
    Taken,
    check,
    check_calls,
    expected_reply,
)

replace = msgspec.structs.replace
CANARY = "s7x0q"
TEXTS = (f"{CANARY}0 tide 🙂", f"{CANARY}1 river", f"{CANARY}2 lantern")


def taken(number: int, *, stopped: bool = False) -> Taken:
    return Taken(
        kind="send", id=f"id{number}", text=TEXTS[number], conversation="c",
        message=f"m{number}", run=f"r{number}", stopped=stopped,
    )  # fmt: skip


def reply_text(number: int) -> str:
    return expected_reply(TEXTS[number])


def tab(name: str) -> TabState:
    return TabState(
        name=name,
        said={f"m{n}": TEXTS[n] for n in range(3)},
        replies={f"r{n}": TabReply(reply_text(n), done=True, status="completed") for n in range(3)},
        order={f"e1/{n}": f"message.created m{n}" for n in range(3)},
        told={f"e1 message.created m{n}": 1 for n in range(3)} | {"e1 conversation.updated c": 4},
        complaints=[],
    )


def books() -> Books:
    """Three questions and their replies, on two tabs, in one line."""
    stored, parent = [], None
    for number, text in enumerate(TEXTS):
        stored += [
            Stored(id=f"m{number}", conversation="c", role="user", text=text, parent=parent),
            Stored(
                id=f"r{number}", conversation="c", role="assistant",
                text=reply_text(number), parent=f"m{number}",
            ),
        ]  # fmt: skip
        parent = f"r{number}"
    return Books(
        name="planted",
        canary=CANARY,
        taken=[taken(number) for number in range(3)],
        tabs=[tab("tab 0"), tab("tab 1")],
        stored=stored,
        shown={"c": [record.id for record in stored]},
    )


def changed(it: Books, id_: str, **facts: object) -> Books:
    """*it* where the record *id_* is another one."""
    stored = [replace(record, **facts) if record.id == id_ else record for record in it.stored]
    return replace(it, stored=stored)


def without(it: Books, id_: str) -> Books:
    return replace(it, stored=[record for record in it.stored if record.id != id_])


def on_tab(it: Books, **facts: object) -> Books:
    """*it* where the second tab is another one."""
    return replace(it, tabs=[it.tabs[0], replace(it.tabs[1], **facts)])


def with_reply(it: Books, run: str, reply: TabReply) -> Books:
    return on_tab(it, replies=it.tabs[1].replies | {run: reply})


def stopped(it: Books, text: str) -> Books:
    """*it* where the last reply was stopped, and so on both tabs."""
    it = changed(it, "r2", text=text, status="stopped")
    reply = TabReply(text, done=True, status="stopped")
    return replace(it, tabs=[replace(t, replies=t.replies | {"r2": reply}) for t in it.tabs])


PLANTED: dict[Kind, Callable[[Books], Books]] = {
    "lost": lambda it: without(it, "m2"),
    "altered": lambda it: changed(it, "m1", text=f"{CANARY}1 sea"),
    "doubled": lambda it: replace(it, stored=[*it.stored, it.stored[0]]),
    "phantom": lambda it: changed(it, "r2", id="r9"),
    "unanswered": lambda it: without(it, "r2"),
    "unended": lambda it: with_reply(it, "r1", TabReply("You", done=False, status="")),
    "cut": lambda it: changed(it, "r2", text=reply_text(2)[:-1]),
    "broken": lambda it: changed(it, "r2", status="interrupted"),
    "missed": lambda it: on_tab(it, said={"m0": TEXTS[0]}),
    "differs": lambda it: with_reply(it, "r0", TabReply("You said", done=True, status="completed")),
    "wrong digest": lambda it: on_tab(it, complaints=["wrong digest: r1"]),
    "foreign": lambda it: with_reply(it, "r8", TabReply("theirs", done=True, status="completed")),
    "repeated": lambda it: on_tab(it, told={"e1 message.created m0": 2}),
    "disordered": lambda it: on_tab(it, order={"e1/1": "run.started r0"}),
    "unreachable": lambda it: changed(it, "m1", parent="gone"),
    "unshown": lambda it: replace(it, shown={"c": it.shown["c"][:-1]}),
    "complaint": lambda it: replace(it, taken=[replace(it.taken[0], run="", code="internal")]),
}


def kinds(it: Books) -> set[Kind]:
    return {finding.kind for finding in check(it)}


def test_a_correct_run_is_accepted() -> None:
    assert check(books()) == []


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_violation_is_found(kind: Kind) -> None:
    assert kind in kinds(PLANTED[kind](books()))


def test_the_same_words_said_twice_are_doubled() -> None:
    assert "doubled" in kinds(changed(books(), "m2", text=TEXTS[1]))


def test_words_of_somebody_else_are_foreign() -> None:
    assert "foreign" in kinds(changed(books(), "m2", text="s8x0q0 theirs"))


def test_a_stopped_reply_may_end_anywhere_where_that_was_asked_for() -> None:
    it = stopped(books(), "You sa")
    assert "broken" in kinds(it)
    it = replace(it, taken=[*it.taken[:2], taken(2, stopped=True)])
    assert check(it) == []
    assert "altered" in kinds(stopped(it, "You never"))


def test_after_a_crash_a_reply_may_be_interrupted_or_never_come() -> None:
    it = replace(without(books(), "r2"), crashed=True)
    shown = {"c": it.shown["c"][:-1]}
    tabs = [replace(t, replies={r: t.replies[r] for r in ("r0", "r1")}) for t in it.tabs]
    assert check(replace(it, shown=shown, tabs=tabs)) == []
    assert "lost" in kinds(without(it, "m2"))


def test_a_history_that_leaves_the_line_is_not_shown() -> None:
    it = books()
    assert "unshown" in kinds(replace(it, shown={"c": [*it.shown["c"][2:], "m0", "r0"]}))


def test_a_model_that_is_asked_once_too_often_is_overpaid() -> None:
    calls = dict.fromkeys(TEXTS, 1)
    assert check_calls(books(), calls) == []
    found = check_calls(books(), calls | {TEXTS[1]: 2})
    assert [finding.kind for finding in found] == ["overpaid"]


def test_a_question_that_is_answered_again_costs_once_more() -> None:
    again = replace(taken(1), kind="regenerate", run="r1b")
    it = replace(books(), taken=[*books().taken, again])
    assert check_calls(it, {TEXTS[1]: 2}) == []
    assert check_calls(it, {TEXTS[1]: 3}) != []
