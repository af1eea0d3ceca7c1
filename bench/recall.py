"""Recall of the evidence, what of it goes into prompts, and the latency of a search in RAM.

``python -m bench.recall [--data FILE] [--model FOLDER] [--ablation]``

Always measured: the project's own set (``recall_set/``: invented users who talk with an assistant
over months; one half may be fitted on, the other only checks) and ``paraphrases.json``.

FILE (or ``TANDEM_LOCOMO``) is LoCoMo (Maharana and others, ACL 2024) reshaped to a list of
``{sessions: [{session, turns: [{id, speaker, text, image_caption?}]}], questions: [{question,
evidence, category}]}``. It is not part of this repository (CC BY-NC), and nothing is fitted to it.
A turn is one message, a session one conversation, a picture's caption part of the text. Recall is
the share of a question's evidence among the first k, averaged over the questions; the interval
holds 95 % of the means of 1,000 draws of as many talks (bootstrap).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import numpy as np

from bench.recall_baseline import round_weight_totals
from bench.recall_data import SMALL_TALK, Question, Talk, own_users, read_talk, read_user
from bench.recall_injection import injected, summary
from memory import ranking
from memory.errors import MemoryFault
from memory.hot_memory import HotMemory
from memory.lexical import LexicalIndex
from memory.onnx_embedder import OnnxEmbedder
from memory.recalled import Recall
from memory.tokens import tokens

ROOT = Path(__file__).resolve().parents[1]
DEPTHS = (5, 10, 30)
ROOMY_BYTES = 1_000_000_000
DRAWS = 1000
LEFT_OUT = (
    ("TURN", "PAIR", "WINDOW", "CONVERSATION"),
    ("CONCEPT_PAIR", "CONCEPT_WINDOW"),
    ("MEANING",),
    ("MEANT_CONVERSATION",),
    ("PIECES", "PIECES_AROUND"),
    ("SPEAKER",),
    ("ROLE",),
    ("LENGTH",),
    ("QUESTION",),
    ("NUMBER",),
    ("CODE",),
    ("TIME",),
    ("RECENCY",),
)
"""What the ablation leaves out, by the names of the weights in ``memory.ranking``."""

Ranker = Callable[[Question], list[str]]
"""Ids of the first ``max(DEPTHS)`` messages for a question, best first."""


def first(talk: Talk, totals: np.ndarray[Any, Any]) -> list[str]:
    order = np.argsort(-totals, kind="stable")[: max(DEPTHS)]
    return [talk.messages[place].id for place in order]


def dense_only(talk: Talk) -> Ranker:
    vectors = np.stack([embedded.vector for embedded in talk.embedded])
    return lambda question: first(talk, vectors @ question.embedded.vector)


def index_of(talk: Talk) -> LexicalIndex:
    index = LexicalIndex()
    for slot, message in enumerate(talk.messages):
        spoken = f"{message.author}: {message.text}" if message.author else message.text
        index.add(slot, tokens(spoken), message.conversation)
    return index


def words_only(talk: Talk) -> Ranker:
    index, count = index_of(talk), len(talk.messages)
    return lambda question: first(talk, index.scores(tokens(question.text)).first(count).turn)


def round_weights(talk: Talk) -> Ranker:
    index, count = index_of(talk), len(talk.messages)
    vectors = np.stack([embedded.vector for embedded in talk.embedded])
    words = np.array([len(tokens(message.text)) for message in talk.messages], np.float32)
    asks = np.array([message.text.rstrip().endswith(("?", "\uff1f")) for message in talk.messages])
    names = [set(tokens(message.author or message.role)) for message in talk.messages]

    def ranker(question: Question) -> list[str]:
        asked = tokens(question.text)
        named = np.array([not name.isdisjoint(asked) for name in names])
        lexical = index.scores(asked).first(count)
        cosine = vectors @ question.embedded.vector
        return first(talk, round_weight_totals(lexical, cosine, words, asks, named))

    return ranker


def searched(talk: Talk) -> Callable[[Question, int], Recall]:
    """The search that the server does."""
    memory = HotMemory(max_messages=len(talk.messages), max_bytes=ROOMY_BYTES)
    for message, embedded in zip(talk.messages, talk.embedded, strict=True):
        memory.add(message, embedded.vector, marks=embedded.marks.rarest())
    memory.read_to_end = True
    return lambda question, limit: memory.search(
        question.text,
        question.embedded.vector,
        limit=limit,
        marks=question.embedded.marks,
        asked_at=question.asked_at,
    )


def final(talk: Talk) -> Ranker:
    search = searched(talk)
    return lambda question: [item.id for item in search(question, max(DEPTHS)).items]


def recall(talks: list[Talk], make: Callable[[Talk], Ranker]) -> dict[str, list[float]]:
    """For each depth the mean, and the lower and upper end of its interval."""
    by_talk = []
    for talk in talks:
        ranker, shares = make(talk), []
        for question in talk.questions:
            if question.evidence:
                ids = ranker(question)
                hits = [len(question.evidence & set(ids[:depth])) for depth in DEPTHS]
                shares.append([hit / len(question.evidence) for hit in hits])
        by_talk.append(np.array(shares))
    dice = np.random.default_rng(0)
    draws = [
        np.concatenate([by_talk[each] for each in dice.integers(0, len(by_talk), len(by_talk))])
        for _ in range(DRAWS)
    ]
    means = np.concatenate(by_talk).mean(axis=0)
    low, high = np.percentile([draw.mean(axis=0) for draw in draws], (2.5, 97.5), axis=0)
    rows = np.round(np.stack((means, low, high), axis=1), 4).tolist()
    return {str(depth): row for depth, row in zip(DEPTHS, rows, strict=True)}


def ablation(talks: list[Talk]) -> dict[str, dict[str, list[float]]]:
    """The final ranking with each group of weights at zero."""
    rows = {}
    for names in LEFT_OUT:
        zeros: dict[str, Any] = dict.fromkeys(names, 0.0)
        with patch.multiple(ranking, **zeros):
            rows["without " + " ".join(names)] = recall(talks, final)
    return rows


def injection(talks: list[Talk]) -> dict[str, dict[str, float]]:
    """What goes into prompts, with the threshold and as plain first five."""
    kept: dict[str, list[Any]] = {}
    took_ms = []
    for talk in talks:
        search = searched(talk)
        for question in talk.questions:
            kind = "answerable" if question.evidence else "without evidence"
            found = search(question, 5)
            took_ms.append(found.took_ms)
            for name, threshold in (("relevant", True), ("first five", False)):
                row = injected(question, found.items, threshold=threshold)
                kept.setdefault(f"{kind}, {name}", []).append(row)
    return {**{kind: summary(rows) for kind, rows in kept.items()}} | {
        "search": {"p50_ms": round(float(np.median(took_ms)), 2)}
    }


async def small_talk(talk: Talk, embedder: OnnxEmbedder) -> Talk:
    """*talk* with small talk for questions: what is injected if the planner lets it pass."""
    lines = json.loads((ROOT / "bench/recall_set" / SMALL_TALK).read_text())
    texts = [line["text"] for line in lines]
    embedded = await embedder.embed_marked(texts)
    at = talk.messages[-1].timestamp
    questions = [
        Question(text, each, frozenset(), at) for text, each in zip(texts, embedded, strict=True)
    ]
    return talk._replace(questions=questions)


async def measure(chosen: argparse.Namespace, files: dict[str, Path]) -> dict[str, Any]:
    embedder = OnnxEmbedder.open(chosen.model, threads=1)
    folder = ROOT / "bench/recall_set"
    sources = {
        "own set, to fit on": [await read_user(it, embedder) for it in own_users(folder, fit=True)],
        "own set, to check": [await read_user(it, embedder) for it in own_users(folder, fit=False)],
    }
    for name, path in files.items():
        talks = json.loads(path.read_text())
        sources[name] = [
            await read_talk(str(number), talk, embedder) for number, talk in enumerate(talks)
        ]
    results: dict[str, Any] = {}
    for name, talks in sources.items():
        rows = {
            "dense only": recall(talks, dense_only),
            "words only": recall(talks, words_only),
            "round weights": recall(talks, round_weights),
            "final": recall(talks, final),
        }
        if chosen.ablation:
            rows |= ablation(talks)
        results[name] = {
            "messages": sum(len(talk.messages) for talk in talks),
            "questions": sum(bool(it.evidence) for talk in talks for it in talk.questions),
            "recall": rows,
            "injection": injection(talks),
        }
    own = sources["own set, to check"]
    results["small talk"] = {"injection": injection([await small_talk(it, embedder) for it in own])}
    await embedder.aclose()
    return results


def show(results: dict[str, Any]) -> None:
    for source, figures in results.items():
        print(f"\n{source}: {figures.get('questions', '')} questions")
        for name, row in figures.get("recall", {}).items():
            cells = (
                f"  {row[str(depth)][0]:.3f} ({row[str(depth)][1]:.3f}-{row[str(depth)][2]:.3f})"
                for depth in DEPTHS
            )
            print(f"{name:46}" + "".join(cells))
        for name, row in figures["injection"].items():
            print(f"{name:46}" + "".join(f"  {key} {value}" for key, value in row.items()))


def main() -> None:
    arguments = argparse.ArgumentParser(description="Recall, and what goes into prompts.")
    arguments.add_argument("--data", default=os.environ.get("TANDEM_LOCOMO", ""), metavar="FILE")
    arguments.add_argument("--ablation", action="store_true")
    arguments.add_argument(
        "--model", type=Path, default=ROOT / "data/models/all-MiniLM-L6-v2", metavar="FOLDER"
    )
    chosen = arguments.parse_args()
    files = {"paraphrases": ROOT / "bench/paraphrases.json"}
    if chosen.data and Path(chosen.data).is_file():
        files["LoCoMo"] = Path(chosen.data)
    else:
        print("No LoCoMo data (--data FILE or TANDEM_LOCOMO): recall on it is not measured.")
    try:
        results = anyio.run(measure, chosen, files)
    except MemoryFault as fault:
        raise SystemExit(f"Recall is not measured: {fault}") from fault
    show(results)
    machine = {"python": platform.python_version(), "cpus": os.cpu_count()}
    path = ROOT / f"bench/results/recall-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**machine, "results": results}, indent=2) + "\n")
    print(f"Written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
