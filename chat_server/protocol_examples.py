"""One example of each frame and event: a short conversation, as the protocol's page tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from chat_server.events import (
    Accepted,
    ConversationDeleted,
    ConversationGone,
    ConversationUpdated,
    Error,
    GoAway,
    Limits,
    LimitsState,
    MessageCreated,
    MessageDeleted,
    Ok,
    Reset,
    RunDelta,
    RunDone,
    RunMemories,
    RunStarted,
    ServerEvent,
    ServerPing,
    ServerPong,
    Usage,
    Welcome,
    WireConversation,
    WireMessage,
)
from chat_server.memory_events import MemoryForgotten, MemoryState, MemoryUpdated
from chat_server.protocol import (
    Attach,
    Auth,
    ClientFrame,
    Draft,
    Edit,
    Hello,
    Ping,
    Pong,
    Regenerate,
    ResumePoint,
    RunPoint,
    Send,
    Stop,
)
from memory.messages import ConversationId, MessageId, RunId
from memory.recalled import Recalled
from memory.short_term import Allowance

CONVERSATION: Final = ConversationId("01JA2Q4VXW0G")
QUESTION: Final = MessageId("mx1")
RUN: Final = RunId("rk3jd7")
TOKEN: Final = "eyJ1IjoiZ3Vlc3QtLi4uIn0.signature"  # noqa: S105  # nobody's
SAID: Final = "My dog is called Biscuit."
SAID_AT: Final = 1_795_190_400.5
REPLIED: Final = "Noted: Biscuit."
REPLIED_AT: Final = 1_795_190_401.9

_frames: Final[tuple[ClientFrame, ...]] = (
    Hello(
        v=1,
        token=TOKEN,
        client="my-bot/1.0",
        resume=ResumePoint(epoch="9a41", seq=41),
        runs=(RunPoint(run=RUN, offset=5),),
    ),
    Auth(id="01JA2R0", token=TOKEN),
    Send(id="01JA2Q4W7N8Z", text=SAID, conversation=CONVERSATION),
    Stop(id="01JA2Q9", run=RUN),
    Regenerate(id="01JA2QD", message=RUN),
    Edit(id="01JA2QF", message=QUESTION, text="My cat is called Biscuit."),
    Attach(id="01JA2QA", run=RUN, offset=5),
    Draft(text="What is my do", conversation=CONVERSATION),
    Ping(),
    Pong(),
)

_question: Final = WireMessage(
    id=QUESTION,
    client_id="01JA2Q4W7N8Z",
    parent=None,
    role="user",
    text=SAID,
    timestamp=SAID_AT,
    status="completed",
)

_reply: Final = WireMessage(
    id=MessageId(RUN),
    parent=QUESTION,
    role="assistant",
    text=REPLIED,
    timestamp=REPLIED_AT,
    status="completed",
    model="gpt-4o-mini",
    reply_to=QUESTION,
)

_events: Final[tuple[ServerEvent, ...]] = (
    Welcome(
        v=1,
        user="guest-abc",
        connection="5f0c",
        resumed=True,
        epoch="9a41",
        seq=44,
        heartbeat_s=25.0,
        max_frame_bytes=65_536,
        limits=LimitsState(
            user=Allowance(limit=30, remaining=30, reset_ms=0),
            global_=Allowance(limit=10_000, remaining=10_000, reset_ms=0),
        ),
    ),
    Accepted(
        re="01JA2Q4W7N8Z", message=QUESTION, conversation=CONVERSATION, run=RUN, duplicate=False
    ),
    Ok(re="01JA2Q9"),
    Error(
        code="rate_limited",
        message="you have sent as many messages as one user may for now; try again in 12 s",
        retryable=True,
        re="01JA2QB",
        retry_after_ms=11_800,
    ),
    MessageCreated(seq=2, conversation=CONVERSATION, message=_question),
    MessageDeleted(
        seq=48,
        conversation=CONVERSATION,
        message=WireMessage(
            id=QUESTION, parent=None, role="user", text="", timestamp=SAID_AT, status="deleted"
        ),
    ),
    RunStarted(seq=3, run=RUN, conversation=CONVERSATION, message=QUESTION, model="gpt-4o-mini"),
    RunMemories(
        run=RUN,
        items=(
            Recalled(
                id=MessageId("ma7"),
                text="Biscuit is a beagle.",
                score=0.81,
                timestamp=1_795_100_000.0,
                conversation=ConversationId("c2"),
                role="user",
                why=("words", "meaning"),
            ),
        ),
        plan="relevant",
        reason="question",
        took_ms=0.4,
    ),
    RunDelta(run=RUN, offset=0, text="Noted"),
    RunDone(
        seq=4,
        run=RUN,
        conversation=CONVERSATION,
        status="completed",
        message=_reply,
        chars=15,
        sha256="22d73977149e4bfa6821abb86910658cb5c3bdf26067bd36a2f1a7fd8e77ca05",
        usage=Usage(input_tokens=61, output_tokens=5),
        timings_ms={"total": 812.4},
        model="gpt-4o-mini",
        finish_reason="stop",
    ),
    ConversationUpdated(
        seq=1,
        conversation=WireConversation(
            id=CONVERSATION, title=SAID, created_at=SAID_AT, updated_at=REPLIED_AT, head=None
        ),
    ),
    ConversationDeleted(seq=45, conversation=ConversationGone(id=CONVERSATION)),
    MemoryForgotten(seq=46, memory=MemoryState(id=QUESTION, forgotten=True)),
    MemoryUpdated(seq=47, memory=MemoryState(id=QUESTION, forgotten=False)),
    Limits(
        user=Allowance(limit=30, remaining=29, reset_ms=60_000),
        global_=Allowance(limit=10_000, remaining=9_980, reset_ms=60_000),
    ),
    Reset(epoch="c07d", seq=0),
    ServerPing(),
    ServerPong(),
    GoAway(reason="restart", deadline_ms=10_000),
)

EXAMPLES: Final[Mapping[type[msgspec.Struct], msgspec.Struct]] = {
    type(example): example for example in (*_frames, *_events)
}
"""The example of each type that is sent."""
