"""A twin of the server behind a line that breaks, loses, doubles and reorders; no I/O.

It knows what was really said, so that what a client holds can be held against it.
"""

from __future__ import annotations

import json
from typing import Any

from chat_server.client_events import decode_event
from chat_server.client_runs import digest
from chat_server.client_state import ClientState

Json = dict[str, Any]


class TrueReply:
    """What is really said in reply *run*, so far."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.text = ""
        self.over = False

    def done(self) -> Json:
        message = {"id": self.run, "role": "assistant", "text": self.text, "timestamp": 1.0}
        return {
            "type": "run.done",
            "run": self.run,
            "conversation": "c1",
            "status": "completed",
            "message": message,
            "chars": len(self.text),
            "sha256": digest(self.text),
        }


class BrokenLine:
    """The server, and the frames on their way to ``client`` and back."""

    def __init__(self) -> None:
        self.client = ClientState()
        self.replies: dict[str, TrueReply] = {}
        self.forgotten: dict[str, list[TrueReply]] = {}
        """What a killed server had said of replies that it did not finish."""
        self.epoch = 1
        self.log: list[Json] = []
        self.down: list[Json] = []
        self.up: list[Json] = []
        self.connected = False

    # What happens at the server.

    def publish(self, event: Json) -> None:
        self.log.append({**event, "seq": len(self.log) + 1})
        if self.connected:
            self.down.append(self.log[-1])

    def begin(self, run: str) -> None:
        self.replies[run] = TrueReply(run)
        message = {"id": f"m-{run}", "role": "user", "text": "Hi", "timestamp": 1.0}
        self.publish({"type": "message.created", "conversation": "c1", "message": message})
        started = {"run": run, "conversation": "c1", "message": f"m-{run}", "model": "stub"}
        self.publish({"type": "run.started", **started})

    def say(self, run: str, text: str) -> None:
        reply = self.replies[run]
        if self.connected:
            self.down.append(
                {"type": "run.delta", "run": run, "offset": len(reply.text), "text": text}
            )
        reply.text += text

    def finish(self, run: str) -> None:
        self.replies[run].over = True
        self.publish(self.replies[run].done())

    def lose_the_order(self) -> None:
        """A new epoch; whoever is connected is told."""
        self.epoch += 1
        self.log = []
        if self.connected:
            self.down.append({"type": "reset", "epoch": f"e{self.epoch}", "seq": 0})

    def kill(self) -> None:
        """Another server takes over, which knows of replies only if they have ended."""
        self.cut()
        self.lose_the_order()
        for run, reply in list(self.replies.items()):
            if not reply.over:
                self.forgotten.setdefault(run, []).append(self.replies.pop(run))

    def said(self, run: str, text: str) -> bool:
        """Whether *text* is the beginning of what was ever said in *run*."""
        replies = [
            *self.forgotten.get(run, ()),
            *([self.replies[run]] if run in self.replies else ()),
        ]
        return any(reply.text.startswith(text) for reply in replies)

    def hear(self) -> None:
        """Carry out what has come from the client."""
        asked, self.up = self.up, []
        for frame in asked:
            if frame["type"] == "attach":
                self._attach(frame["id"], frame["run"], frame["offset"])
            elif frame["type"] == "send":
                self._accept(frame)

    def _accept(self, frame: Json) -> None:
        run = f"r-{frame['id']}"
        under_way = run in self.replies
        duplicate = under_way or run in self.forgotten
        facts = {"re": frame["id"], "message": f"m-{run}", "conversation": "c1", "run": run}
        self.down.append({"type": "accepted", "duplicate": duplicate, **facts})
        if not under_way:
            self.begin(run)

    def _attach(self, id_: str, run: str, offset: int) -> None:
        reply = self.replies.get(run)
        if reply is None:
            refused = {"code": "unknown_run", "message": "no such run", "re": id_}
            self.down.append({"type": "error", **refused})
            return
        self.down.append({"type": "ok", "re": id_})
        if reply.over:
            self.down.append(reply.done())
        elif offset < len(reply.text):
            missing = {"run": run, "offset": offset, "text": reply.text[offset:]}
            self.down.append({"type": "run.delta", **missing})

    # What happens on the line.

    def deliver(self, frames: int) -> None:
        for _ in range(min(frames, len(self.down))):
            self.client.take(decode_event(json.dumps(self.down.pop(0))))
            self.flush()
            if self.client.leaving:
                self.cut()
                return

    def flush(self) -> None:
        """What the client has to say is on its way."""
        if self.connected:
            self.up += self.client.outgoing
            self.client.outgoing.clear()

    def cut(self) -> None:
        self.connected = False
        self.down.clear()
        self.up.clear()
        self.client.lost()

    def connect(self, *, remembers: bool) -> None:
        """A new connection; the server *remembers* the events that were missed, or does not."""
        hello: Json = self.client.hello()
        self.connected = True
        resume = hello.get("resume", {})
        resumed = remembers and resume.get("epoch") == f"e{self.epoch}"
        place = {"epoch": f"e{self.epoch}", "seq": len(self.log)}
        self.down.append({"type": "welcome", "user": "ana", "resumed": resumed, **place})
        if resumed:
            self.down += self.log[resume["seq"] :]
        for point in hello.get("runs", []):
            self._attach(f"attach-{point['run']}", point["run"], point["offset"])

    def mend(self) -> None:
        """From here on nothing breaks, and every reply comes to its end."""
        for reply in self.replies.values():
            if not reply.over:
                self.finish(reply.run)
        for _ in range(20):
            if not self.connected:
                self.connect(remembers=True)
            conversation = {"id": "c1", "title": "Hi", "created_at": 1.0, "updated_at": 1.0}
            self.publish({"type": "conversation.updated", "conversation": conversation})
            self.hear()
            self.deliver(len(self.down))
            for reply in self.replies.values():
                if not reply.over:
                    self.finish(reply.run)
            self.client.later()
            self.flush()
            self.hear()
