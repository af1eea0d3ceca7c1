"""What recall is measured on: the project's own conversations, paraphrases, and LoCoMo."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from memory.embedding import Embedded
from memory.messages import ConversationId, Message, MessageId, UserId
from memory.onnx_embedder import OnnxEmbedder

FIT_USERS = ("mirela", "tomasz", "ines", "ken", "yuki")
"""The half of the own set that weights may be fitted on; the other half only checks."""
SMALL_TALK = "small_talk.json"
TURN_ID = re.compile(r"D\d+:\d+")
ADVERSARIAL = 5
ROLES = ("user", "assistant")


class Question(NamedTuple):
    """``evidence``: the ids of all messages needed to answer; none when nothing answers it."""

    text: str
    embedded: Embedded
    evidence: frozenset[str]
    asked_at: float


class Talk(NamedTuple):
    """One user, or pair of speakers: all messages, oldest first, and what is asked about them."""

    name: str
    messages: list[Message]
    embedded: list[Embedded]
    questions: list[Question]


def own_users(folder: Path, *, fit: bool) -> Iterator[dict[str, Any]]:
    """The users of the half that weights are fitted on, or of the other."""
    for path in sorted(folder.glob("*.json")):
        if path.name != SMALL_TALK:
            user = json.loads(path.read_text())
            if (user["user"] in FIT_USERS) is fit:
                yield user


async def read_user(user: dict[str, Any], embedder: OnnxEmbedder) -> Talk:
    """One user of the own set."""
    turns = [
        (_seconds(turn["at"]), talk["id"], turn)
        for talk in user["conversations"]
        for turn in talk["turns"]
    ]
    turns.sort(key=lambda each: each[0])
    messages = [
        Message(
            id=MessageId(turn["id"]),
            user=UserId(user["user"]),
            conversation=ConversationId(talk),
            role=turn["role"],
            text=turn["text"],
            timestamp=at,
            depth=number,
        )
        for number, (at, talk, turn) in enumerate(turns)
    ]
    asked = [(each["text"], each["evidence"], each["asked_at"]) for each in user["questions"]]
    asked += [(each["text"], [], each["asked_at"]) for each in user["unanswerable"]]
    questions = [(text, frozenset(ids), _seconds(at)) for text, ids, at in asked]
    return await _embedded(user["user"], messages, questions, embedder)


async def read_talk(name: str, talk: dict[str, Any], embedder: OnnxEmbedder) -> Talk:
    """One conversation pair in the shape that ``bench/recall.py`` describes."""
    messages = list(_messages(talk))
    known = {message.id for message in messages}
    questions = []
    for each in talk["questions"]:
        evidence = frozenset(TURN_ID.findall(" ".join(each["evidence"]))) & known
        if each["category"] != ADVERSARIAL and evidence:
            questions.append((each["question"], evidence, float(len(messages))))
    return await _embedded(name, messages, questions, embedder)


def _messages(talk: dict[str, Any]) -> Iterator[Message]:
    number = 0
    for session in talk["sessions"]:
        for turn in session["turns"]:
            yield Message(
                id=MessageId(turn["id"]),
                user=UserId("bench"),
                conversation=ConversationId(str(session["session"])),
                role="assistant" if turn["speaker"] == "assistant" else "user",
                author=None if turn["speaker"] in ROLES else turn["speaker"],
                text=f"{turn['text']} {turn.get('image_caption') or ''}".strip(),
                timestamp=float(number),
                depth=number,
            )
            number += 1


async def _embedded(
    name: str,
    messages: list[Message],
    questions: list[tuple[str, frozenset[str], float]],
    embedder: OnnxEmbedder,
) -> Talk:
    said = await embedder.embed_marked([message.text for message in messages])
    asked = await embedder.embed_marked([text for text, _, _ in questions])
    return Talk(
        name,
        messages,
        said,
        [
            Question(text, embedded, frozenset(evidence), at)
            for (text, evidence, at), embedded in zip(questions, asked, strict=True)
        ],
    )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
