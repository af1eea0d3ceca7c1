"""The checker accepts what may happen, and finds each kind of broken promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.history import Kind, check, main
from tests.chaos.logbook import (
    Accepted,
    AnyEntry,
    Done,
    Joined,
    Line,
    Logbook,
    Met,
    Read,
    Refused,
    Sent,
    Shown,
    StoredMessage,
    Unknown,
    read_logs,
    write_store,
)

replace = msgspec.structs.replace


@dataclass
class World:
    """A correct server in miniature, driven by a drawn script; times are counted."""

    entries: list[AnyEntry] = field(default_factory=list)
    records: list[StoredMessage] = field(default_factory=list)
    clock: float = 0.0
    users: int = 0

    def note(self, kind: Callable[..., AnyEntry], user: str, **facts: object) -> None:
        self.clock += 1
        self.entries.append(kind(t=self.clock, user=user, **facts))

    def join(self) -> str:
        self.users += 1
        user = f"user-{self.users}"
        self.note(Joined, user, canary=f"canary-{self.users}!")
        return user

    def tail(self, user: str, conversation: str) -> StoredMessage | None:
        said = [r for r in self.records if (r.user, r.conversation) == (user, conversation)]
        return max(said, key=lambda record: record.depth, default=None)

    def store(self, user: str, conversation: str, **facts: str) -> StoredMessage:
        tail = self.tail(user, conversation)
        record = StoredMessage(
            user=user,
            conversation=conversation,
            parent=tail.id if tail else None,
            depth=tail.depth + 1 if tail else 0,
            **facts,  # type: ignore[arg-type]  # strings only
        )
        self.records.append(record)
        return record

    def turn(self, user: str, number: int, outcome: str) -> None:
        """One message and what becomes of it."""
        conversation = f"{user}-talk-{number % 2}"
        id_ = f"{user}-{number}"
        said = {"id": id_, "text": f"canary-{user[5:]}! number {number}"}
        self.note(Sent, user, conversation=conversation, **said)
        if outcome == "refused":
            self.note(Refused, user, id=id_, code="not_stored")
            return
        if outcome != "unknown, not stored":
            facts = {"role": "user", "client_id": id_, "text": said["text"]}
            self.store(user, conversation, id=f"m-{id_}", **facts)
        if outcome.startswith("unknown"):
            self.note(Unknown, user, id=id_)
            return
        if outcome == "retried":
            self.note(Refused, user, id=id_, code="store_unknown")
            self.note(Sent, user, conversation=conversation, **said)
        self.note(Accepted, user, id=id_, message=f"m-{id_}", run=f"r-{id_}")
        for offset, word in ((0, "some"), (4, " words")):
            self.note(Shown, user, run=f"r-{id_}", offset=offset, text=word)
        text = "some" if outcome == "interrupted" else "some words"
        facts = {"role": "assistant", "reply_to": f"m-{id_}", "text": text}
        self.store(user, conversation, id=f"r-{id_}", **facts)
        if outcome != "interrupted":
            self.note(Done, user, run=f"r-{id_}", text=text)

    def read(self) -> None:
        for user, conversation in {(r.user, r.conversation): None for r in self.records}:
            held = [r for r in self.records if (r.user, r.conversation) == (user, conversation)]
            held.sort(key=lambda record: record.depth)
            lines = tuple(Line(record.id, record.text) for record in held)
            self.note(Read, user, conversation=conversation, lines=lines)

    def kinds(self) -> set[Kind]:
        return {finding.kind for finding in check(self.entries, self.records)}


OUTCOMES = (
    "accepted", "accepted", "retried", "refused", "unknown, stored", "unknown, not stored",
    "interrupted",
)  # fmt: skip
scripts = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(OUTCOMES)), max_size=30)


def played(script: list[tuple[int, str]]) -> World:
    """Three users; each has said something that was accepted, then what *script* says."""
    world = World()
    users = [world.join() for _ in range(3)]
    for number, user in enumerate(users):
        world.turn(user, number, "accepted")
    for number, (who, outcome) in enumerate(script, 10):
        world.turn(users[who], number, outcome)
    return world


@given(scripts)
def test_a_correct_history_is_accepted_with_all_its_unknown_outcomes(
    script: list[tuple[int, str]],
) -> None:
    world = played(script)
    world.read()
    assert check(world.entries, world.records) == []


def first(records: list[StoredMessage], role: str) -> int:
    return next(index for index, record in enumerate(records) if record.role == role)


def lose(world: World) -> None:
    del world.records[first(world.records, "user")]


def alter(world: World) -> None:
    index = first(world.records, "user")
    world.records[index] = replace(world.records[index], text="something else")


def double(world: World) -> None:
    record = world.records[first(world.records, "user")]
    world.records.append(replace(record, id="another-id"))


def double_the_record(world: World) -> None:
    world.records.append(world.records[0])


def double_the_reply(world: World) -> None:
    record = world.records[first(world.records, "assistant")]
    world.records.append(replace(record, id="another-id"))


def orphan(world: World) -> None:
    index = first(world.records, "assistant")
    world.records[index] = replace(world.records[index], parent="nowhere")


def misplace(world: World) -> None:
    index = first(world.records, "assistant")
    world.records[index] = replace(world.records[index], depth=7)


def fork(world: World) -> None:
    index = first(world.records, "assistant")
    reply = world.records[index]
    world.records.append(replace(reply, id="beside", reply_to=world.records[0].id, text="beside"))


def give_away(world: World) -> None:
    index = first(world.records, "user")
    world.records[index] = replace(world.records[index], user="user-2")


def leak_into_the_store(world: World) -> None:
    index = first(world.records, "assistant")
    world.records[index] = replace(world.records[index], text="I know canary-2! well")


def leak_into_a_search(world: World) -> None:
    world.note(Met, "user-1", texts=("what canary-3! said",))


def invent(world: World) -> None:
    world.store("user-1", "user-1-talk-0", id="x", role="user", text="boo", client_id="never")


def answer_nothing(world: World) -> None:
    world.store("user-1", "user-1-talk-0", id="x", role="assistant", text="", reply_to="never")


def deny(world: World) -> None:
    world.turn("user-1", 99, "refused")
    said = {"client_id": "user-1-99", "text": "canary-1! number 99"}
    world.store("user-1", "user-1-talk-1", id="m-99", role="user", **said)


def lose_the_reply(world: World) -> None:
    del world.records[first(world.records, "assistant")]


def cut_the_reply(world: World) -> None:
    world.turn("user-1", 98, "interrupted")
    world.records[-1] = replace(world.records[-1], text="so")


def lose_the_unfinished_reply(world: World) -> None:
    world.turn("user-1", 97, "interrupted")
    del world.records[-1]


def disorder(world: World) -> None:
    """The second message of a conversation stands where its first should."""
    user = world.join()
    for number in (2, 4):
        world.turn(user, number, "accepted")
    swapped = {f"m-{user}-2": 2, f"r-{user}-2": 3, f"m-{user}-4": 0, f"r-{user}-4": 1}
    order = [f"m-{user}-4", f"r-{user}-4", f"m-{user}-2", f"r-{user}-2"]
    for index, record in enumerate(world.records):
        if record.id in swapped:
            depth = swapped[record.id]
            parent = order[depth - 1] if depth else None
            world.records[index] = replace(record, depth=depth, parent=parent)


def misread(world: World) -> None:
    lines = (Line("m-user-1-0", "canary-1! number 0"),)
    world.note(Read, "user-1", conversation="user-1-talk-0", lines=lines)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (lose, "lost"),
        (alter, "altered"),
        (double, "doubled"),
        (double_the_record, "doubled"),
        (double_the_reply, "doubled"),
        (orphan, "orphaned"),
        (misplace, "orphaned"),
        (fork, "forked"),
        (give_away, "foreign"),
        (leak_into_the_store, "foreign"),
        (leak_into_a_search, "foreign"),
        (invent, "phantom"),
        (answer_nothing, "phantom"),
        (deny, "denied"),
        (lose_the_reply, "reply lost"),
        (cut_the_reply, "reply cut"),
        (lose_the_unfinished_reply, "reply cut"),
        (disorder, "disordered"),
        (misread, "misread"),
    ],
)
@given(scripts)
def test_a_planted_violation_is_found_in_any_history(
    plant: Callable[[World], None], kind: Kind, script: list[tuple[int, str]]
) -> None:
    world = played(script)
    assert kind not in world.kinds()
    plant(world)
    assert kind in world.kinds()


def test_a_reply_that_still_waits_in_the_journal_is_not_lost() -> None:
    world = played([])
    index = first(world.records, "assistant")
    reply = replace(world.records.pop(index), place="journal", parent=None, depth=0)
    assert world.kinds() == {"reply lost"}
    world.records.append(reply)
    assert world.kinds() == set()


def test_a_message_whose_attempts_were_unknown_once_may_be_there() -> None:
    world = played([])
    deny(world)
    sent = next(e for e in world.entries if isinstance(e, Sent) and e.id == "user-1-99")
    world.entries.append(replace(sent, t=world.clock + 1))
    assert world.kinds() == set(), "the second attempt has no answer"
    world.note(Refused, "user-1", id=sent.id, code="not_stored")
    assert world.kinds() == {"denied"}
    world.note(Refused, "user-1", id=sent.id, code="store_unknown")
    assert world.kinds() == set()


def test_the_command_prints_what_was_broken_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    record = StoredMessage(
        id="m1", user="u", conversation="c", role="user", text="hello", depth=0, client_id="a"
    )
    with (tmp_path / "u.ndjson").open("wb") as file:
        log = Logbook(file, "u")
        log.write(Joined, canary="hello")
        log.write(Sent, id="a", conversation="c", text="hello")
        log.write(Accepted, id="a", message="m1", run="r1")
        log.write(Refused, id="b", code="busy")
    assert len(read_logs([tmp_path / "u.ndjson"])) == 4
    write_store(store, [record])
    assert main([str(tmp_path), str(store)]) == 0
    assert "0 broken promises" in capsys.readouterr().out
    write_store(store, [])
    assert main([str(tmp_path), str(store)]) == 1
    assert "lost: m1" in capsys.readouterr().out
    assert main([]) == 2
