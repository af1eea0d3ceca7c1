from __future__ import annotations

import pytest

from chat_server.offline_responder import OfflineResponder, Reason
from chat_server.prompt import Prompt
from chat_server.reply_model import ReplyEnd, ReplyText
from memory.messages import OFFLINE_MODEL, ConversationId, Message, MessageId, Role, UserId
from memory.recalled import Recalled

THIRD_OF_MAY = 1_777_805_000.0  # 3 May 2026, 10:43 UTC
NOTHING = (
    "I remember nothing about that. "
    "No language model is configured, so I can only repeat what you have told me."
)


def recalled(
    text: str, *, score: float = 0.5, role: Role = "user", timestamp: float = THIRD_OF_MAY
) -> Recalled:
    return Recalled(
        id=MessageId(f"m-{text}"),
        text=text,
        score=score,
        timestamp=timestamp,
        conversation=ConversationId("earlier"),
        role=role,
        why=("words",),
    )


def said(text: str, *, role: Role = "user", author: str | None = None) -> Message:
    return Message(
        id=MessageId(f"w-{text}"),
        user=UserId("u"),
        conversation=ConversationId("now"),
        role=role,
        text=text,
        timestamp=THIRD_OF_MAY + 86_400,
        depth=0,
        author=author,
    )


def asked(question: str, *memories: Recalled, window: tuple[Message, ...] = ()) -> Prompt:
    return Prompt(messages=(), question=question, memories=memories, window=window)


async def pieces(prompt: Prompt, reason: Reason = "not_configured") -> list[ReplyText | ReplyEnd]:
    responder = OfflineResponder(reason, now=lambda: THIRD_OF_MAY + 3_600)
    return [piece async for piece in responder.stream(prompt)]


async def answer(prompt: Prompt, reason: Reason = "not_configured") -> str:
    *words, end = await pieces(prompt, reason)
    assert end == ReplyEnd("stop")
    return "".join(piece.text for piece in words if isinstance(piece, ReplyText))


def test_its_replies_are_marked_as_offline() -> None:
    assert OfflineResponder().name == OFFLINE_MODEL


async def test_what_the_user_said_is_quoted_with_its_day() -> None:
    prompt = asked("What is my dog called?", recalled("My dog is called Biscuit."))
    assert await answer(prompt) == 'You told me on 3 May 2026: "My dog is called Biscuit."'


async def test_the_reply_comes_in_words_and_is_the_same_each_time() -> None:
    prompt = asked("What is my dog called?", recalled("My dog is called Biscuit."))
    first = await pieces(prompt)
    assert first == await pieces(prompt)
    texts = [piece.text for piece in first if isinstance(piece, ReplyText)]
    assert texts[:3] == ["You ", "told ", "me "]
    assert all(texts)


async def test_it_says_in_one_sentence_when_the_model_is_only_out_of_reach() -> None:
    unreachable = "\n\nThe language model is out of reach now."
    fits = asked("What is my dog called?", recalled("My dog is called Biscuit."))
    for prompt in (asked("Hello"), asked("I sail."), asked("Who are you?"), fits):
        text = await answer(prompt, "unreachable")
        assert text.endswith(unreachable)
        assert text.count("language model") == 1


async def test_without_a_model_it_explains_itself_only_when_it_has_nothing_to_say() -> None:
    fits = asked("What is my dog called?", recalled("My dog is called Biscuit."))
    for prompt in (asked("Hello"), asked("I sail."), fits):
        assert "language model" not in await answer(prompt)
    assert await answer(asked("Who are you?")) == NOTHING


async def test_users_words_go_before_replies_and_at_most_three_are_listed() -> None:
    prompt = asked(
        "Which boats do I own?",
        recalled("Boats are ships.", role="assistant"),
        recalled("My boat is blue."),
        recalled("I own two boats."),
        recalled("The boats leak."),
    )
    assert await answer(prompt) == (
        "This is what I remember:\n"
        '- You told me on 3 May 2026: "I own two boats."\n'
        '- You told me on 3 May 2026: "My boat is blue."\n'
        '- You told me on 3 May 2026: "The boats leak."'
    )


async def test_an_earlier_reply_is_quoted_as_its_own_words() -> None:
    prompt = asked("When do ferries run?", recalled("Ferries run daily.", role="assistant"))
    assert await answer(prompt) == 'I told you on 3 May 2026: "Ferries run daily."'


async def test_the_window_is_searched_by_words() -> None:
    window = (
        said("My sister Ana sails."),
        said("Nice!", role="assistant"),
        said("The weather is bad.", author="Ana"),
    )
    assert await answer(asked("Does my sister sail?", window=window)) == (
        'You told me on 4 May 2026: "My sister Ana sails."'
    )
    assert await answer(asked("And the weather?", window=window)) == (
        'Ana said on 4 May 2026: "The weather is bad."'
    )


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of Peru?",
        "Tell me a joke",
        "Please tell me one",
        "Can you help me?",
        "Weißt du einen Witz",
        "Write a poem about autumn",
    ],
)
async def test_nothing_found_is_admitted(question: str) -> None:
    unrelated = recalled("Please remember that one thing I told you: I like tea.", score=0.9)
    assert await answer(asked(question, unrelated)) == NOTHING


async def test_a_guess_is_made_for_questions_about_the_user_and_called_one() -> None:
    memory = recalled("Biscuit barked all night.", score=0.6)
    assert await answer(asked("Which pets do I own?", memory)) == (
        "I remember nothing that says so. This comes closest:\n"
        '- You told me on 3 May 2026: "Biscuit barked all night."'
    )
    unlikely = recalled("Biscuit barked all night.", score=0.4)
    assert await answer(asked("Which pets do I own?", unlikely)) == NOTHING


async def test_a_statement_is_noted_and_nothing_is_quoted() -> None:
    assert await answer(asked("I moved to Oslo.")) == "I have noted that."
    related = asked("Please remember: Oslo is cold.", recalled("I moved to Oslo."))
    assert await answer(related) == "I have noted that."


@pytest.mark.parametrize(
    "question",
    [
        "What do you know about me?",
        "What did I tell you?",
        "Tell me everything you know about me so far, please",
        "Do you remember me?",
        "Who am I?",
        "Was weißt du über mich?",
        "Woran erinnerst du dich?",
        "Qu'est-ce que tu sais ?",
        "¿Qué sabes?",
    ],
)
async def test_asked_what_it_knows_it_lists_the_latest_that_was_said(question: str) -> None:
    days = [
        recalled(f"Fact {day}.", timestamp=THIRD_OF_MAY - 86_400 * day) for day in (2, 0, 1, 3, 4)
    ]
    others = (recalled("Ferries run daily.", role="assistant"), recalled("Who am I?"))
    window = (said(question), said("Thanks!"), said("My sister Ana sails."))
    text = await answer(asked(question, *others, *days, window=window))
    assert text == (
        "Here is some of what you told me, the latest first:\n"
        '- You told me on 4 May 2026: "My sister Ana sails."\n'
        '- You told me on 3 May 2026: "Fact 0."\n'
        '- You told me on 2 May 2026: "Fact 1."\n'
        '- You told me on 1 May 2026: "Fact 2."\n'
        '- You told me on 30 April 2026: "Fact 3."'
    )
    assert await answer(asked(question)) == NOTHING


async def test_asked_for_today_it_lists_what_was_said_today() -> None:
    old = recalled("I like tea.", timestamp=THIRD_OF_MAY - 86_400)
    assert await answer(asked("What did I tell you today?", old)) == NOTHING
    assert await answer(asked("What did I tell you today?", old, recalled("I sail."))) == (
        "Here is some of what you told me, the latest first:\n"
        '- You told me on 3 May 2026: "I sail."'
    )


@pytest.mark.parametrize("text", ["Hi!", "Good morning", "Danke!", "How are you?", "👋", "¡Hola!"])
async def test_a_greeting_brings_up_no_memories(text: str) -> None:
    prompt = asked(text, recalled("My dog is called Biscuit.", score=1.0))
    assert "Biscuit" not in await answer(prompt)


async def test_questions_requests_and_the_message_itself_are_no_answers() -> None:
    prompt = asked(
        "Where is my boat?",
        recalled("Where is my boat?"),
        recalled("Is my boat blue?"),
        recalled("Please tell me where my boat is"),
        recalled("where is my boat"),
        window=(said("where is  my boat?"),),
    )
    assert await answer(prompt) == NOTHING
    both = recalled("My boat is in Bergen. Shall I sell it?")
    assert "Bergen" in await answer(asked("Where is my boat?", both))


async def test_what_was_said_twice_is_quoted_once() -> None:
    prompt = asked("My boat?", recalled("My boat is blue."), window=(said("my boat is  blue."),))
    assert (await answer(prompt)).count("blue") == 1


async def test_a_long_text_is_cut_between_words_and_its_lines_are_joined() -> None:
    prompt = asked("What about the boat?", recalled("The boat\n\nis " + "very " * 60 + "big."))
    quote = (await answer(prompt)).partition('"')[2].removesuffix('"')
    assert len(quote) <= 200
    assert quote.startswith("The boat is very")
    assert quote.endswith(" very…")


async def test_a_long_text_without_spaces_is_cut_too() -> None:
    prompt = asked("船はどこですか?", recalled("船は" + "青" * 300))
    quote = (await answer(prompt)).partition('"')[2].removesuffix('"')
    assert quote == "船は" + "青" * 197 + "…"


async def test_a_quote_stays_in_its_language() -> None:
    prompt = asked("Wo steht mein Fahrrad?", recalled("Mein Fahrrad steht im Keller."))
    assert await answer(prompt) == 'You told me on 3 May 2026: "Mein Fahrrad steht im Keller."'


async def test_a_time_beyond_the_calendar_is_left_out() -> None:
    prompt = asked("My boat?", recalled("My boat is blue.", timestamp=1e18))
    assert await answer(prompt) == 'You told me: "My boat is blue."'
