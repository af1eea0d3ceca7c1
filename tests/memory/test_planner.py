"""What is worth remembering for a message."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.planner import plan_for

RECALL_SET = Path(__file__).parents[2] / "bench" / "recall_set"
SMALL_TALK = RECALL_SET / "small_talk.json"
LEAST_SKIPPED = 0.95


def test_nearly_all_small_talk_is_not_searched_for() -> None:
    lines = [each["text"] for each in json.loads(SMALL_TALK.read_text("utf-8"))]
    searched = [line for line in lines if plan_for(line).searches]
    assert len(lines) >= 200
    assert len(searched) <= (1 - LEAST_SKIPPED) * len(lines), searched


@pytest.mark.parametrize(
    "file", sorted(set(RECALL_SET.glob("*.json")) - {SMALL_TALK}), ids=lambda file: file.stem
)
def test_no_question_about_the_users_life_is_skipped(file: Path) -> None:
    found = json.loads(file.read_text("utf-8"))
    questions = [each["text"] for each in found["questions"] + found["unanswerable"]]
    assert [question for question in questions if not plan_for(question).searches] == []


@pytest.mark.parametrize(
    "line",
    [
        "heyyy",
        "Thanks for your help, Dorothea!",
        "LOL that's so funny",
        "...",
        "I am so happy",
        "who made you?",
        "catch you later",
        "Sch\u00f6nen Tag noch",
        "\u00bfC\u00f3mo est\u00e1s?",
        "Raconte-moi une blague",
        "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430?",
        "\u304a\u75b2\u308c\u69d8\u3067\u3059",
        "\u4f60\u662f\u8c01\uff1f",
        "\uac10\uc0ac\ud569\ub2c8\ub2e4",
    ],
)
def test_small_talk_needs_nothing(line: str) -> None:
    assert plan_for(line).kind == "none"


@pytest.mark.parametrize(
    "question",
    [
        "what's my name?",
        "do you remember me?",
        "what music do I like?",
        "am I tired?",
        "Thanks. Wifi code?",
        "Good morning, when's the dentist?",
        "wo wohne ich?",
        "\u00bfqu\u00e9 me gusta?",
        "co lubi\u0119?",
        "\u6211\u53eb\u4ec0\u4e48\u540d\u5b57\uff1f",
        "\u79c1\u306f\u8ab0\uff1f",
        "\u0433\u0434\u0435 \u044f \u0436\u0438\u0432\u0443?",
        "what story did you tell me?",
        "my cat's name",
    ],
)
def test_a_short_question_in_the_words_of_small_talk_is_searched_for(question: str) -> None:
    assert plan_for(question).kind == "relevant"


@pytest.mark.parametrize(
    "request_", ["What did I just say?", "Say that again, please", "What was your last answer?"]
)
def test_what_was_said_just_now_stands_in_the_window(request_: str) -> None:
    assert plan_for(request_).kind == "recent"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ("Tell me everything about my boat", "everything"),
        ("List all my allergies", "everything"),
        ("Was wei\u00dft du \u00fcber mich?", "about_the_user"),
        ("How many times was I in Faro?", "each_time"),
        ("When did I first meet Rosa?", "first_time"),
        ("\u00bfCu\u00e1ntas veces estuve en Faro?", "each_time"),
    ],
)
def test_a_request_for_all_there_is_goes_deep(request_: str, reason: str) -> None:
    assert (plan_for(request_).kind, plan_for(request_).reason) == ("deep", reason)


def test_a_plan_says_why() -> None:
    assert plan_for("hello there").reason == "greeting"
    assert plan_for("Where is the boat?").reason == "question"
    assert plan_for("The boat is in Faro.").reason == "statement"


@given(st.text(max_size=300))
def test_every_text_has_a_plan(text: str) -> None:
    assert plan_for(text).kind in ("none", "recent", "relevant", "deep")


@given(st.sampled_from(["my", "mein", "mi", "mon", "\u043c\u043e\u0439"]), st.text(max_size=40))
def test_a_question_about_what_is_mine_is_never_taken_for_small_talk(mine: str, rest: str) -> None:
    assert plan_for(f"{mine} {rest} ?").kind != "none"
