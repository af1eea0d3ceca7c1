from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.errors import ERRORS, ChatError, ErrorCode
from chat_server.events import (
    Accepted,
    Error,
    GoAway,
    Limits,
    LimitsState,
    MessageCreated,
    RunDelta,
    ServerEvent,
    ServerPing,
    Welcome,
    error_event,
    error_facts,
    wire_conversation,
    wire_message,
)
from chat_server.frames import frame_of
from chat_server.runs import Run
from memory.messages import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    MessageStatus,
    RunId,
    UserId,
)
from memory.short_term import Allowance

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.none() | texts
messages = st.builds(
    Message,
    id=texts.map(MessageId),
    user=st.just(UserId("ann-of-whom-nobody-hears")),
    conversation=texts.map(ConversationId),
    role=st.sampled_from(["user", "assistant"]),
    text=texts,
    timestamp=st.floats(0, 4e9),
    depth=st.integers(0, 99),
    parent=st.none() | texts.map(MessageId),
    client_id=names,
    author=names,
    status=st.sampled_from(get_args(MessageStatus)),
    model=names,
    reply_to=st.none() | texts.map(MessageId),
    forgotten=st.booleans(),
)


def sent(event: ServerEvent) -> dict[str, object]:
    decoded: dict[str, object] = msgspec.json.decode(frame_of(event).payload)
    return decoded


@given(messages)
def test_a_message_is_shown_as_it_is_but_for_its_user_and_depth(message: Message) -> None:
    frame = sent(
        MessageCreated(seq=1, conversation=message.conversation, message=wire_message(message))
    )
    shown = frame["message"]
    assert isinstance(shown, dict)
    expected = {
        name: value
        for name, value in msgspec.structs.asdict(message).items()
        if name not in {"user", "depth", "conversation", "forgotten"}
        and (value is not None or name == "parent")
    }
    if message.forgotten:
        expected["forgotten"] = True
    assert shown == expected
    assert "ann-of-whom" not in frame_of(ServerPing()).payload.decode() + str(frame)


@given(texts, st.integers(0, 10**6))
def test_a_delta_keeps_every_character(text: str, offset: int) -> None:
    frame = sent(RunDelta(run=RunId("r"), offset=offset, text=text))
    assert frame == {"type": "run.delta", "run": "r", "offset": offset, "text": text}


def test_zero_and_false_are_said_and_what_is_unknown_is_left_out() -> None:
    limits = Allowance(limit=30, remaining=0, reset_ms=0)
    welcome = Welcome(
        v=1,
        user="ann",
        connection="c",
        resumed=False,
        epoch="e",
        seq=0,
        heartbeat_s=25.0,
        max_frame_bytes=65_536,
        limits=LimitsState(user=limits, global_=limits),
    )
    frame = sent(welcome)
    assert (frame["type"], frame["resumed"], frame["seq"]) == ("welcome", False, 0)
    spent = {"limit": 30, "remaining": 0, "reset_ms": 0}
    assert frame["limits"] == {"user": spent, "global": spent}
    assert sent(Limits(user=limits, global_=limits)) == {
        "type": "limits",
        "user": spent,
        "global": spent,
    }
    assert sent(GoAway(reason="restart", deadline_ms=0))["deadline_ms"] == 0
    error = sent(error_event(ChatError("busy", "wait")))
    assert error == {"type": "error", "code": "busy", "message": "wait", "retryable": True}


def test_accepted_names_the_run_that_the_reply_will_have() -> None:
    message = Message(
        id=MessageId("m"),
        user=UserId("ann"),
        conversation=ConversationId("c"),
        role="user",
        text="hello",
        timestamp=1.0,
        depth=0,
    )
    run = Run.id_of(message)
    frame = sent(
        Accepted(
            re="a", message=message.id, conversation=ConversationId("c"), run=run, duplicate=False
        )
    )
    assert frame["run"] == run
    assert frame["duplicate"] is False


def test_a_conversation_that_never_branched_has_a_null_head() -> None:
    plain = Conversation(
        id=ConversationId("c"), user=UserId("ann"), title="t", created_at=1.0, updated_at=2.0
    )
    assert msgspec.to_builtins(wire_conversation(plain)) == {
        "id": "c",
        "title": "t",
        "created_at": 1.0,
        "updated_at": 2.0,
        "head": None,
    }


@pytest.mark.parametrize("code", get_args(ErrorCode))
def test_every_error_says_whether_to_try_again_here_and_inside_other_events(
    code: ErrorCode,
) -> None:
    error = ChatError(code, "why", field="text", retry_after_ms=5)
    event = error_event(error, re="a", run=RunId("r"))
    assert event == Error(
        code=code,
        message="why",
        retryable=ERRORS[code].retryable,
        re="a",
        run=RunId("r"),
        retry_after_ms=5,
        field="text",
    )
    facts = msgspec.to_builtins(error_facts(error))
    assert facts == {
        name: value for name, value in sent(event).items() if name not in {"type", "re", "run"}
    }


def test_every_event_has_a_type_of_its_own() -> None:
    kinds = ServerEvent.__subclasses__()
    tags = {kind.__struct_config__.tag for kind in kinds}
    assert len(tags) == len(kinds) > 10
