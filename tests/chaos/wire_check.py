"""Which promise of the wire was broken in one run; pure.

It knows what was said and accepted, what every tab has at the end, what the server says over HTTP,
and how often the model was asked. It knows nothing of the server's code.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from tests.chaos.wire_copy import digest
from tests.chaos.wire_plan import StepKind

Kind = Literal[
    "lost",  # accepted, and not there
    "altered",  # there with other words than were said
    "doubled",  # there more than once, or with more replies than were asked for
    "phantom",  # there, and nobody said or asked for it
    "unanswered",  # accepted, and its reply is neither there nor told of
    "unended",  # a tab does not know that the reply is over
    "cut",  # the reply is less than the model said, or than was shown
    "broken",  # the reply ended in a way that nobody asked for
    "missed",  # a tab does not know of it
    "differs",  # a tab's text is not the stored text
    "wrong digest",  # the server's digest is not that of its text
    "foreign",  # another user's words
    "repeated",  # a tab was told twice of the same thing, at two places
    "disordered",  # two tabs were told different things at the same place
    "unreachable",  # stored, and its parent is not
    "unshown",  # the history is not one line from its beginning to its end
    "overpaid",  # the model was asked more often than replies were wanted
    "complaint",  # a tab was told what cannot be
]

REPLY_BEGINS: Final = "You said: "
REPLY_ENDS: Final = "\nI was given:"
MAY_BE_REPEATED: Final = " conversation.updated "


class Finding(NamedTuple):
    """A broken promise, and what it was broken for."""

    kind: Kind
    subject: str
    detail: str


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One step whose outcome is known. *run* is empty where it was refused for good, *code* says
    with which error. *text* is what the reply answers. *stopped*: somebody asked for that.
    """

    kind: StepKind
    id: str
    text: str
    conversation: str
    message: str = ""
    run: str = ""
    stopped: bool = False
    code: str = ""


class TabReply(msgspec.Struct, frozen=True):
    """A reply as a tab has it."""

    text: str
    done: bool
    status: str


class TabState(msgspec.Struct, frozen=True, kw_only=True):
    """All that a tab has at the end; *said*: texts of the user's messages by id. *order*: what
    stood at which ``epoch/seq``. *told*: how often a thing was told within an epoch.
    """

    name: str
    said: dict[str, str]
    replies: dict[str, TabReply]
    order: dict[str, str]
    told: dict[str, int]
    complaints: list[str]


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the export has it."""

    id: str
    conversation: str
    role: str
    text: str
    parent: str | None = None
    status: str = "completed"


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one run. *shown*: for each conversation its line, as its history tells it,
    ids of messages, oldest first. *crashed*: a server process died meanwhile. *forgetful*: it was
    forgotten meanwhile who makes which reply, so that it may be made, and told, twice.
    """

    name: str
    canary: str
    taken: list[Taken]
    tabs: list[TabState]
    stored: list[Stored]
    shown: dict[str, list[str]]
    crashed: bool = False
    forgetful: bool = False


def expected_reply(text: str) -> str:
    """What the stub of the model says to *text*."""
    return f"{REPLY_BEGINS}{text}{REPLY_ENDS}"


def check(books: Books) -> list[Finding]:
    """The promises that were broken, each once."""
    found = [
        *_questions(books),
        *_copies(books),
        *_replies(books),
        *_trees(books),
        *(finding for tab in books.tabs for finding in _tab(books, tab)),
        *_order(books),
    ]
    return list(dict.fromkeys(found))


def check_calls(books: Books, calls: Mapping[str, int]) -> list[Finding]:
    """Whether the model was asked once for each reply that was wanted; *calls* by last words."""
    wanted = Counter(step.text for step in books.taken if step.run)
    return [
        Finding("overpaid", text[:40], f"{calls.get(text, 0)} calls for {wanted[text]} replies")
        for text in wanted
        if calls.get(text, 0) > wanted[text]
    ]


def _by_id(books: Books) -> dict[str, Stored]:
    return {record.id: record for record in books.stored}


def _questions(books: Books) -> Iterator[Finding]:
    by_id = _by_id(books)
    for step in books.taken:
        if not step.run:
            yield Finding("complaint", step.id, f"{step.kind} was refused: {step.code}")
            continue
        record = by_id.get(step.message)
        if record is None:
            yield Finding("lost", step.message, f"accepted as {step.id}")
        elif (record.text, record.conversation) != (step.text, step.conversation):
            yield Finding("altered", step.message, f"is not what {step.id} said")


def _copies(books: Books) -> Iterator[Finding]:
    for id_, times in Counter(record.id for record in books.stored).items():
        if times > 1:
            yield Finding("doubled", id_, f"{times} records")
    for text, times in Counter(r.text for r in books.stored if r.role == "user").items():
        if times > 1:
            yield Finding("doubled", text[:40], f"said {times} times")
    messages = {step.message for step in books.taken}
    runs = {step.run for step in books.taken}
    for record in books.stored:
        if record.role == "user" and record.id not in messages:
            yield Finding("phantom", record.id, "nobody said it")
        if record.role == "assistant" and record.id not in runs:
            yield Finding("phantom", record.id, "nobody asked for it")
        if books.canary not in record.text and record.text:
            whole = REPLY_BEGINS + books.canary
            if not whole.startswith(record.text):
                yield Finding("foreign", record.id, f"holds {record.text[:60]!r}")


def _replies(books: Books) -> Iterator[Finding]:
    by_id = _by_id(books)
    for step in books.taken:
        if not step.run:
            continue
        record = by_id.get(step.run)
        if record is None:
            if not books.crashed:
                yield Finding("unanswered", step.run, f"the reply to {step.id}")
            continue
        whole = expected_reply(step.text)
        allowed = {"completed"} | ({"stopped"} if step.stopped else set())
        allowed |= {"interrupted"} if books.crashed else set()
        if record.status not in allowed:
            yield Finding("broken", step.run, f"ended as {record.status}")
        elif record.status == "completed" and record.text != whole:
            kind: Kind = "cut" if whole.startswith(record.text) else "altered"
            yield Finding(kind, step.run, f"{len(record.text)} of {len(whole)} code points")
        elif not whole.startswith(record.text):
            yield Finding("altered", step.run, f"is {record.text[:60]!r}")


def _trees(books: Books) -> Iterator[Finding]:
    by_id = _by_id(books)
    for record in books.stored:
        if record.parent is not None and (
            record.parent not in by_id or by_id[record.parent].conversation != record.conversation
        ):
            yield Finding("unreachable", record.id, f"its parent {record.parent} is not there")
    for conversation, line in books.shown.items():
        before: str | None = None
        for id_ in line:
            shown = by_id.get(id_)
            if shown is None or shown.conversation != conversation:
                yield Finding("unshown", id_, "shown, and not stored there")
                break
            if shown.parent != before:
                yield Finding("unshown", id_, f"follows {before}, and stands after {shown.parent}")
            before = id_
        if line and any(record.parent == line[-1] for record in books.stored):
            yield Finding("unshown", line[-1], "something follows it that is not shown")


def _tab(books: Books, tab: TabState) -> Iterator[Finding]:
    for complaint in tab.complaints:
        kind: Kind = "wrong digest" if complaint.startswith("wrong digest") else "complaint"
        yield Finding(kind, tab.name, complaint)
    for thing, times in tab.told.items():
        if times > 1 and not (books.crashed or books.forgetful) and MAY_BE_REPEATED not in thing:
            yield Finding("repeated", tab.name, f"{thing}: {times} times")
    yield from _missed(books, tab)
    yield from _texts(books, tab)


def _missed(books: Books, tab: TabState) -> Iterator[Finding]:
    by_id = _by_id(books)
    for step in books.taken:
        if step.run and step.message not in tab.said:
            yield Finding("missed", tab.name, f"message {step.message}")
        if step.run and step.run not in tab.replies and (step.run in by_id or not books.crashed):
            yield Finding("missed", tab.name, f"reply {step.run}")


def _texts(books: Books, tab: TabState) -> Iterator[Finding]:
    by_id = _by_id(books)
    for id_, text in tab.said.items():
        if id_ not in by_id:
            yield Finding("foreign", tab.name, f"has {id_}, which is not there")
        elif by_id[id_].text != text:
            yield Finding("differs", tab.name, f"message {id_}")
    for run, reply in tab.replies.items():
        record = by_id.get(run)
        never_said = books.crashed and not (reply.text and reply.done)
        if record is None and not never_said:
            yield Finding("foreign", tab.name, f"has reply {run}, which is not there")
        elif record is None:
            continue
        elif not reply.done:
            yield Finding("unended", tab.name, f"reply {run}, {len(reply.text)} code points")
        elif digest(reply.text) != digest(record.text):
            detail = f"reply {run}: {len(reply.text)} of {len(record.text)} code points"
            yield Finding("differs", tab.name, detail)
        elif reply.status != record.status:
            yield Finding("differs", tab.name, f"{run} is {reply.status}, not {record.status}")


def _order(books: Books) -> Iterator[Finding]:
    places: dict[str, set[str]] = defaultdict(set)
    for tab in books.tabs:
        for place, thing in tab.order.items():
            places[place].add(thing)
    for place, things in places.items():
        if len(things) > 1:
            yield Finding("disordered", place, " or ".join(sorted(things)))
