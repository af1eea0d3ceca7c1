"""Which promise was broken: clients' logs held against what the store holds; pure.

``python -m tests.chaos.history LOGS STORE`` reads a folder of logs (or one log) and a file of
records, prints a line for each finding, and ends with status 1 if there is any.

An operation without a certain outcome (``store_unknown``, a lost connection) may have been
carried out or not; but never twice, and never partly.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.chaos.logbook import (
    Accepted,
    AnyEntry,
    Done,
    Joined,
    Met,
    Read,
    Refused,
    Sent,
    Shown,
    StoredMessage,
    Unknown,
    read_logs,
    read_store,
)

Kind = Literal[
    "lost",  # accepted, and not there
    "altered",  # there with other words than were said or shown
    "doubled",  # there more than once
    "orphaned",  # what it follows is not there, or its depth is not the next one
    "forked",  # two messages follow the same one, and one of them is never shown
    "disordered",  # stands before one that was accepted earlier
    "foreign",  # with another user, or another's words shown
    "phantom",  # there, and nobody said it
    "denied",  # there, and each attempt was answered with "certainly not stored"
    "reply lost",  # was shown as complete, and is neither in the store nor in the journal
    "reply cut",  # was shown in part, and less of it is there
    "misread",  # a client reads another history than the store holds
]

CHECKPOINT_S: Final = 1.0
"""What of an unfinished reply was shown earlier than this before the end must be kept (promised
are 0.25 s; more is granted to a busy machine)."""
CERTAIN: Final = frozenset({"not_stored", "store_busy", "busy", "rate_limited"})
"""Refusals that say: this attempt was not stored."""


class Finding(NamedTuple):
    """A broken promise, and what it was broken for."""

    kind: Kind
    subject: str
    detail: str


class History:
    """The logs and the store, looked at from all sides."""

    def __init__(self, entries: Sequence[AnyEntry], records: Sequence[StoredMessage]) -> None:
        """*entries* in the order in which they happened."""
        self._entries = entries
        self._records = records
        self._by_id: dict[str, StoredMessage] = {record.id: record for record in records}
        self._sent: dict[tuple[str, str], list[Sent]] = defaultdict(list)
        self._answers: dict[tuple[str, str], list[Accepted | Refused | Unknown]] = defaultdict(list)
        self._canaries: dict[str, str] = {}
        for entry in entries:
            if isinstance(entry, Sent):
                self._sent[entry.user, entry.id].append(entry)
            elif isinstance(entry, Accepted | Refused | Unknown):
                self._answers[entry.user, entry.id].append(entry)
            elif isinstance(entry, Joined):
                self._canaries[entry.canary] = entry.user

    def findings(self) -> list[Finding]:
        """All broken promises, each once."""
        found = [
            *self._questions(),
            *self._copies(),
            *self._trees(),
            *self._order(),
            *self._owners(),
            *self._origins(),
            *self._replies(),
            *self._readings(),
        ]
        return list(dict.fromkeys(found))

    def _questions(self) -> Iterator[Finding]:
        for entry in self._entries:
            if not isinstance(entry, Accepted):
                continue
            record = self._by_id.get(entry.message)
            if record is None:
                yield Finding("lost", entry.message, f"accepted as {entry.id}")
                continue
            said = self._sent[entry.user, entry.id]
            if not said or (record.text, record.conversation) != (
                said[0].text,
                said[0].conversation,
            ):
                yield Finding("altered", entry.message, f"is not what {entry.id} said")

    def _copies(self) -> Iterator[Finding]:
        keys: Counter[tuple[str, ...]] = Counter()
        for record in self._records:
            keys["id", record.id] += 1
            if record.client_id is not None:
                keys["client id", record.user, record.client_id] += 1
            if record.role == "assistant" and record.reply_to is not None:
                keys["reply to", record.reply_to] += 1
        for key, times in keys.items():
            if times > 1:
                yield Finding("doubled", key[-1], f"{times} records with the same {key[0]}")

    def _trees(self) -> Iterator[Finding]:
        followers: dict[tuple[str, str, str | None], list[str]] = defaultdict(list)
        for record in self._records:
            if record.place != "store":
                continue
            followers[record.user, record.conversation, record.parent].append(record.id)
            if record.parent is None:
                if record.depth != 0:
                    yield Finding("orphaned", record.id, f"depth {record.depth} without a parent")
                continue
            parent = self._by_id.get(record.parent)
            if parent is None or (parent.user, parent.conversation) != (
                record.user,
                record.conversation,
            ):
                yield Finding("orphaned", record.id, f"its parent {record.parent} is not there")
            elif record.depth != parent.depth + 1:
                detail = f"depth {record.depth} after {parent.depth}"
                yield Finding("orphaned", record.id, detail)
        for (_, _, parent_id), ids in followers.items():
            if len(set(ids)) > 1:
                yield Finding("forked", parent_id or "the beginning", f"followed by {sorted(ids)}")

    def _order(self) -> Iterator[Finding]:
        """What was accepted before another was said stands before it."""
        deepest: dict[tuple[str, str], int] = {}
        begun: set[tuple[str, str]] = set()
        for entry in self._entries:
            if isinstance(entry, Sent):
                record = self._record_of(entry.user, entry.id)
                place = (entry.user, entry.conversation)
                if (entry.user, entry.id) in begun or record is None:
                    continue
                begun.add((entry.user, entry.id))
                if record.depth <= deepest.get(place, -1):
                    detail = f"depth {record.depth}, accepted before it: {deepest[place]}"
                    yield Finding("disordered", record.id, detail)
            elif isinstance(entry, Accepted):
                accepted = self._by_id.get(entry.message)
                if accepted is not None:
                    place = (accepted.user, accepted.conversation)
                    deepest[place] = max(deepest.get(place, -1), accepted.depth)

    def _record_of(self, user: str, client_id: str) -> StoredMessage | None:
        for answer in self._answers[user, client_id]:
            if isinstance(answer, Accepted):
                return self._by_id.get(answer.message)
        return None

    def _owners(self) -> Iterator[Finding]:
        for record in self._records:
            yield from self._foreign(record.user, record.text, record.id)
            question = self._by_id.get(record.reply_to or "")
            if question is not None and question.user != record.user:
                yield Finding("foreign", record.id, "answers another user's question")
        for entry in self._entries:
            if isinstance(entry, Accepted):
                record_of = self._by_id.get(entry.message)
                if record_of is not None and record_of.user != entry.user:
                    yield Finding("foreign", entry.message, "stands with another user")
            for text in _shown_texts(entry):
                yield from self._foreign(entry.user, text, f"what {entry.user} was shown")

    def _foreign(self, user: str, text: str, subject: str) -> Iterator[Finding]:
        for canary, owner in self._canaries.items():
            if owner != user and canary in text:
                yield Finding("foreign", subject, f"holds the words of {owner}")

    def _origins(self) -> Iterator[Finding]:
        for record in self._records:
            if record.role == "assistant":
                if record.reply_to not in self._by_id:
                    yield Finding("phantom", record.id, "a reply to nothing that is there")
                continue
            sent = self._sent.get((record.user, record.client_id or ""))
            if not sent:
                yield Finding("phantom", record.id, "nobody said it")
                continue
            if record.text != sent[0].text:
                yield Finding("altered", record.id, f"is not what {record.client_id} said")
            answers = self._answers[record.user, record.client_id or ""]
            if len(answers) >= len(sent) and all(
                isinstance(answer, Refused) and answer.code in CERTAIN for answer in answers
            ):
                yield Finding("denied", record.id, "each attempt was certainly not stored")

    def _replies(self) -> Iterator[Finding]:
        ended: set[str] = set()
        for entry in self._entries:
            if isinstance(entry, Done):
                ended.add(entry.run)
                record = self._by_id.get(entry.run)
                if record is None:
                    yield Finding("reply lost", entry.run, f"done, stored={entry.stored}")
                elif record.text != entry.text:
                    yield Finding("altered", entry.run, "is not what was shown when it was done")
        for run, text in self._unfinished(ended).items():
            kept = self._by_id.get(run)
            if kept is None or not kept.text.startswith(text):
                there = "nothing" if kept is None else f"{len(kept.text)} characters"
                yield Finding("reply cut", run, f"{len(text)} characters were shown, {there} kept")

    def _unfinished(self, ended: set[str]) -> dict[str, str]:
        """What of each reply whose end nobody saw was shown long enough before the user lost
        sight of it.
        """
        shown: dict[str, list[Shown]] = defaultdict(list)
        seen_last: dict[str, float] = {}
        for entry in self._entries:
            if isinstance(entry, Shown) and entry.run not in ended:
                shown[entry.run].append(entry)
                seen_last[entry.run] = entry.t
        return {
            run: text
            for run, pieces in shown.items()
            if (text := _joined(p for p in pieces if p.t <= seen_last[run] - CHECKPOINT_S))
        }

    def _readings(self) -> Iterator[Finding]:
        stored: dict[tuple[str, str], list[StoredMessage]] = defaultdict(list)
        for record in self._records:
            if record.place == "store":
                stored[record.user, record.conversation].append(record)
        for entry in self._entries:
            if isinstance(entry, Read):
                held = sorted(stored[entry.user, entry.conversation], key=lambda it: it.depth)
                if [(line.id, line.text) for line in entry.lines] != [
                    (record.id, record.text) for record in held
                ]:
                    detail = f"{len(entry.lines)} messages read, {len(held)} stored"
                    yield Finding("misread", entry.conversation, detail)


def check(entries: Sequence[AnyEntry], records: Sequence[StoredMessage]) -> list[Finding]:
    """The promises that were broken; *entries* in the order in which they happened."""
    return History(entries, records).findings()


def _shown_texts(entry: AnyEntry) -> Sequence[str]:
    match entry:
        case Shown() | Done():
            return (entry.text,)
        case Read():
            return [line.text for line in entry.lines]
        case Met():
            return entry.texts
        case _:
            return ()


def _joined(pieces: Iterable[Shown]) -> str:
    """The pieces as one text; one that does not fit is left out, as clients do."""
    text = ""
    for piece in pieces:
        if piece.offset <= len(text):
            text = text[: piece.offset] + piece.text
    return text


def main(arguments: Sequence[str]) -> int:
    """Print what is found in the logs and the store of *arguments*; the exit status."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m tests.chaos.history LOGS STORE\n")
        return 2
    logs = Path(arguments[0])
    paths = sorted(logs.glob("*.ndjson")) if logs.is_dir() else [logs]
    entries = read_logs(paths)
    records = read_store(Path(arguments[1]))
    findings = check(entries, records)
    for finding in findings:
        sys.stdout.write(f"{finding.kind}: {finding.subject}: {finding.detail}\n")
    accepted = sum(isinstance(entry, Accepted) for entry in entries)
    sys.stdout.write(
        f"{len(entries)} log entries, {accepted} accepted, {len(records)} records: "
        f"{len(findings)} broken promises\n"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
