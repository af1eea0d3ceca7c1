"""Recall of the evidence in long conversations, and the latency of a search in RAM.

``python bench/recall.py [--data FILE] [--model FOLDER]``

Always measured: ``paraphrases.json``, written for this project: one user's chats with an assistant,
and questions that share next to no word with their evidence.

FILE (or ``TANDEM_LOCOMO``) is LoCoMo (Maharana and others, ACL 2024) reshaped to a list of
``{sessions: [{session, turns: [{id, speaker, text, image_caption?}]}], questions: [{question,
evidence, category}]}``. It is not part of this repository (CC BY-NC). A turn is one message, a
session one conversation, a picture's caption part of the text. Recall is the share of a question's
evidence turns among the first k, averaged over the questions of categories 1 to 4.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # it is run as a script, from any folder

from memory.errors import MemoryFault  # noqa: E402 - after the path is set
from memory.hot_memory import HotMemory  # noqa: E402
from memory.lexical import LexicalIndex  # noqa: E402
from memory.messages import (  # noqa: E402
    ConversationId,
    Message,
    MessageId,
    UserId,
    Vector,
    Vectors,
)
from memory.onnx_embedder import OnnxEmbedder  # noqa: E402
from memory.tokens import tokens  # noqa: E402

DEPTHS = (5, 10, 30)
TURN_ID = re.compile(r"D\d+:\d+")
ADVERSARIAL = 5
ROOMY_BYTES = 1_000_000_000
QUERIES = 300
ROLES = ("user", "assistant")
DIMENSION = 384


class Question(NamedTuple):
    text: str
    vector: Vector
    evidence: set[str]


class Talk(NamedTuple):
    """One pair of speakers: all their messages, oldest first, and what is asked about them."""

    messages: list[Message]
    vectors: Vectors
    questions: list[Question]


Ranker = Callable[[Question], list[str]]
"""Ids of the first ``max(DEPTHS)`` messages for a question, best first."""


def messages_of(talk: dict[str, Any]) -> Iterator[Message]:
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


async def read_talk(talk: dict[str, Any], embedder: OnnxEmbedder) -> Talk:
    messages = list(messages_of(talk))
    known = {message.id for message in messages}
    asked = [each for each in talk["questions"] if each["category"] != ADVERSARIAL]
    evidence = [set(TURN_ID.findall(" ".join(each["evidence"]))) & known for each in asked]
    vectors = await embedder.embed([message.text for message in messages])
    asking = await embedder.embed([each["question"] for each in asked])
    questions = [
        Question(each["question"], vector, turns)
        for each, vector, turns in zip(asked, asking, evidence, strict=True)
        if turns
    ]
    return Talk(messages, vectors, questions)


def dense_only(talk: Talk) -> Ranker:
    def ranker(question: Question) -> list[str]:
        order = np.argsort(-(talk.vectors @ question.vector), kind="stable")
        return [talk.messages[place].id for place in order[: max(DEPTHS)]]

    return ranker


def words_only(talk: Talk) -> Ranker:
    index = LexicalIndex()
    for slot, message in enumerate(talk.messages):
        spoken = f"{message.author or message.role}: {message.text}"
        index.add(slot, tokens(spoken), message.conversation)

    def ranker(question: Question) -> list[str]:
        turn = index.scores(tokens(question.text)).first(len(talk.messages)).turn
        return [talk.messages[place].id for place in np.argsort(-turn, kind="stable")[:30]]

    return ranker


def fusion(talk: Talk, *, vectors: bool) -> Ranker:
    memory = HotMemory(max_messages=len(talk.messages), max_bytes=ROOMY_BYTES)
    for message, vector in zip(talk.messages, talk.vectors, strict=True):
        memory.add(message, vector)

    def ranker(question: Question) -> list[str]:
        vector = question.vector if vectors else None
        found = memory.search(question.text, vector, limit=max(DEPTHS))
        return [item.id for item in found.items]

    return ranker


def recall(talks: list[Talk], make: Callable[[Talk], Ranker]) -> dict[str, float]:
    shares: list[list[float]] = []
    for talk in talks:
        ranker = make(talk)
        for question in talk.questions:
            first = ranker(question)
            hits = [len(question.evidence & set(first[:depth])) for depth in DEPTHS]
            shares.append([hit / len(question.evidence) for hit in hits])
    means = np.mean(shares, axis=0)
    return {str(depth): round(float(mean), 4) for depth, mean in zip(DEPTHS, means, strict=True)}


async def measure_recall(data: list[dict[str, Any]], model: Path) -> dict[str, Any]:
    embedder = OnnxEmbedder.open(model, threads=2)
    talks = [await read_talk(talk, embedder) for talk in data]
    await embedder.aclose()
    return {
        "talks": len(talks),
        "messages": sum(len(talk.messages) for talk in talks),
        "questions": sum(len(talk.questions) for talk in talks),
        "recall": {
            "dense": recall(talks, dense_only),
            "words": recall(talks, words_only),
            "fusion without vectors": recall(talks, lambda talk: fusion(talk, vectors=False)),
            "fusion": recall(talks, lambda talk: fusion(talk, vectors=True)),
        },
    }


def measure_latency(count: int) -> dict[str, float]:
    """Made-up messages of 5 to 45 words, frequencies as in language; made-up unit vectors."""
    dice = random.Random(count)
    numbers = np.random.default_rng(count)
    words = [f"w{number}" for number in range(20_000)]
    sums = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    vectors = numbers.standard_normal((count + QUERIES, DIMENSION), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    memory = HotMemory(max_messages=count, max_bytes=ROOMY_BYTES)
    started = time.perf_counter()
    for number in range(count):
        message = Message(
            id=MessageId(str(number)),
            user=UserId("bench"),
            conversation=ConversationId(str(number // 40)),
            role="user" if number % 2 else "assistant",
            text=" ".join(dice.choices(words, cum_weights=sums, k=dice.randint(5, 45))),
            timestamp=float(number),
            depth=number,
        )
        memory.add(message, vectors[number])
    added_us = (time.perf_counter() - started) / count * 1e6
    took_ms = []
    for number in range(QUERIES):
        text = " ".join(dice.choices(words, cum_weights=sums, k=12))
        took_ms.append(memory.search(text, vectors[count + number], limit=10).took_ms)
    return {
        "messages": count,
        "search_p50_ms": round(float(np.percentile(took_ms, 50)), 3),
        "search_p95_ms": round(float(np.percentile(took_ms, 95)), 3),
        "add_mean_us": round(added_us, 1),
        "bytes_per_message": round(memory.size_bytes / count),
    }


def show(results: dict[str, Any]) -> None:
    for source, figures in results["recall"].items():
        print(f"{source}: {figures['questions']} questions over {figures['messages']} messages")
        print(f"{'recall at':24}" + "".join(f"{depth:>8}" for depth in DEPTHS))
        for name, row in figures["recall"].items():
            print(f"{name:24}" + "".join(f"{row[str(depth)]:8.3f}" for depth in DEPTHS))
    for row in results["latency"]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


def main() -> None:
    arguments = argparse.ArgumentParser(description="Recall and latency of the memory.")
    arguments.add_argument("--data", default=os.environ.get("TANDEM_LOCOMO", ""), metavar="FILE")
    arguments.add_argument(
        "--model", type=Path, default=ROOT / "data/models/all-MiniLM-L6-v2", metavar="FOLDER"
    )
    chosen = arguments.parse_args()
    sources = {"paraphrases": ROOT / "bench/paraphrases.json"}
    if chosen.data and Path(chosen.data).is_file():
        sources["LoCoMo"] = Path(chosen.data)
    else:
        print("No LoCoMo data (--data FILE or TANDEM_LOCOMO): recall on it is not measured.")
    results: dict[str, Any] = {"python": platform.python_version(), "cpus": os.cpu_count()}
    results["recall"] = {}
    try:
        for source, path in sources.items():
            data = json.loads(path.read_text())
            results["recall"][source] = anyio.run(measure_recall, data, chosen.model)
    except MemoryFault as fault:
        print(f"Recall is not measured: {fault}")
    results["latency"] = [measure_latency(count) for count in (1000, 2000)]
    show(results)
    folder = ROOT / "bench/results"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"recall-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
