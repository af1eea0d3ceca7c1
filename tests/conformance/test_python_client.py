"""The Python client's state against the conformance vectors; README.md has their format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chat_server.client_events import VERSION, decode_event
from chat_server.client_runs import Asked
from chat_server.client_state import ClientState

FOLDER = Path(__file__).parent
VECTORS = sorted(FOLDER.glob("*.json"))
Json = dict[str, Any]


class Driver:
    """Takes the steps of one vector."""

    def __init__(self) -> None:
        self.state = ClientState()
        self.sent: list[Json] = []
        self.last_attach = ""

    def step(self, step: Json) -> None:
        (kind, what), *_more = step.items()
        match kind:
            case "open":
                self._out({"type": "hello", "v": VERSION, **self.state.hello()})
            case "frame":
                self._take(what)
            case "do":
                self.state.ask(Asked(what))
            case "lost":
                self.state.lost()
            case "later":
                self.state.later()
            case "sent":
                assert self.sent, f"{what} is missing"
                frame = self.sent.pop(0)
                assert {name: frame.get(name) for name in what} == what
                return
            case "leaves":
                assert self.state.leaving
                return
            case _:
                raise AssertionError(f"unknown step {kind}")
        assert self.state.outgoing == [] or self.state.online
        for frame in self.state.outgoing:
            self._out(frame)
        self.state.outgoing.clear()

    def _take(self, frame: Json) -> None:
        if frame.get("re") == "$attach":
            frame = {**frame, "re": self.last_attach}
        self.state.take(decode_event(json.dumps(frame)))

    def _out(self, frame: Json) -> None:
        self.sent.append(frame)
        if frame["type"] == "attach":
            self.last_attach = frame["id"]


def plain(state: ClientState) -> Json:
    """*state* in the words of the vectors."""
    cursor = state.cursor
    return {
        "cursor": {"epoch": cursor.epoch, "seq": cursor.seq} if cursor else None,
        "fresh_starts": state.fresh_starts,
        "conversations": {
            id_: msgspec.to_builtins(told) for id_, told in state.told.conversations.items()
        },
        "messages": {
            id_: {**msgspec.to_builtins(message), "conversation": conversation}
            for id_, (conversation, message) in state.told.messages.items()
        },
        "runs": {
            id_: {
                name: getattr(run, name) for name in ("text", "status", "conversation", "corrected")
            }
            for id_, run in state.runs.items()
        },
        "unanswered": list(state.unanswered),
        "refused": state.refused,
        "mismatches": state.mismatches,
    }


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_story_ends_as_it_should(path: Path) -> None:
    vector = json.loads(path.read_text())
    driver = Driver()
    steps = vector["steps"]
    for number, step in enumerate(steps):
        following = steps[number + 1] if number + 1 < len(steps) else {}
        driver.step(step)
        assert not driver.sent or "sent" in following, (number, driver.sent)
        left_alone = "leaves" in step or "leaves" in following
        assert left_alone or not driver.state.leaving, number
    has = plain(driver.state)
    for key, wanted in vector["state"].items():
        if key in {"conversations", "messages", "runs"}:
            assert set(has[key]) == set(wanted), key
            for id_, fields in wanted.items():
                assert {name: has[key][id_].get(name) for name in fields} == fields
        else:
            assert has[key] == wanted, key


def test_each_vector_is_named_after_its_file_and_says_why() -> None:
    assert len(VECTORS) >= 30
    for path in VECTORS:
        vector = json.loads(path.read_text())
        assert vector["name"] == path.stem
        assert vector["why"]
        assert set(vector) == {"name", "why", "steps", "state"}
