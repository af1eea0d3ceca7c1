"""What the fake server makes of commands: messages, replies, and what is missing of them."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket

from tests.browser.fake_store import FakeConversation, FakeRun, FakeUser, Json, Refusal

if TYPE_CHECKING:
    from tests.browser.fake_server import FakeServer


class FakeTurns:
    """Carries out the commands of *server*'s users as its script says."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    async def handle(self, websocket: WebSocket, user: FakeUser, frame: Json) -> None:
        script = self._server.script
        match frame["type"]:
            case "send" | "edit" | "regenerate" if not script.ignore_sends:
                if script.refusals:
                    await _refuse(websocket, frame, refusal(script.refusals.popleft()))
                else:
                    await self._say(websocket, user, frame)
            case "stop":
                if (run := user.runs.get(str(frame["run"]))) is not None:
                    run.stopped = True
                await _send(websocket, {"type": "ok", "re": frame["id"]})
                self._server.let_go()
            case "attach" if not script.ignore_attaches:
                await self.attach(websocket, user, frame)

    async def attach(self, websocket: WebSocket, user: FakeUser, frame: Json) -> None:
        """What is missing of a reply: as a delta, or as its end, which has no place then."""
        if self._server.script.refuse_attaches:
            refused = refusal(self._server.script.refuse_attaches.popleft())
            await _refuse(websocket, frame, refused)
            return
        run = user.runs.get(str(frame["run"]))
        conversation = user.of_message(frame["run"])
        if run is None and conversation is None:
            unknown = Refusal(code="unknown_run", retryable=False)
            await _refuse(websocket, frame, refusal(unknown))
            return
        await _send(websocket, {"type": "ok", "re": frame["id"]})
        if run is not None:
            memories: Json = {"type": "run.memories", "run": run.id, "items": run.reply.memories}
            await _send(websocket, memories)
            offset = int(str(frame["offset"]))
            if offset < len(run.text):
                delta: Json = {"type": "run.delta", "run": run.id, "offset": offset}
                await _send(websocket, delta | {"text": run.text[offset:]})
        elif conversation is not None:
            ended = conversation.find(frame["run"])
            assert ended is not None
            await _send(websocket, _done(conversation, ended))

    async def _say(self, websocket: WebSocket, user: FakeUser, frame: Json) -> None:
        """A message and its reply, or another reply, whichever *frame* asks for; once."""
        client_id = str(frame["id"])
        if frame["type"] == "regenerate":
            await self._regenerate(websocket, user, frame)
            return
        id_ = f"m-{client_id}"
        conversation = self._conversation(user, frame)
        edited = conversation.find(frame.get("message"))
        known = next((m for m in conversation.messages if m.get("client_id") == client_id), None)
        if known is not None:
            id_ = str(known["id"])
        parent = edited["parent"] if edited is not None else conversation.tail()
        await _accept(websocket, frame, conversation, id_, duplicate=known is not None)
        if known is not None:
            if known.get("reply") == "interrupted":
                del known["reply"]
                self._answer(user, conversation, known)
            return
        message: Json = {"id": id_, "client_id": client_id, "parent": parent, "role": "user"}
        message |= {"text": frame["text"], "timestamp": time.time(), "status": "completed"}
        conversation.add(message)
        if edited is not None:
            conversation.head = id_
        created: Json = {"type": "message.created", "conversation": conversation.id}
        await self._server.tell(user, created | {"message": message})
        await self._updated(user, conversation)
        self._answer(user, conversation, message)

    def _answer(self, user: FakeUser, conversation: FakeConversation, question: Json) -> None:
        run = FakeRun(
            id=f"run-{question['client_id']}",
            conversation=conversation.id,
            question=str(question["id"]),
            reply=self._server.script.next_reply(),
        )
        self._begin(user, run)

    def _conversation(self, user: FakeUser, frame: Json) -> FakeConversation:
        if frame["type"] == "edit":
            found = user.of_message(frame["message"])
            assert found is not None
            return found
        return user.conversation(str(frame["conversation"]), str(frame["text"])[:40])

    async def _regenerate(self, websocket: WebSocket, user: FakeUser, frame: Json) -> None:
        conversation = user.of_message(frame["message"])
        assert conversation is not None
        question = str(frame["message"])
        old = next(
            held
            for held in conversation.messages
            if held["role"] == "assistant" and question in {held["parent"], held.get("reply_to")}
        )
        run = FakeRun(
            id=f"run-{frame['id']}",
            conversation=conversation.id,
            question=question,
            reply=self._server.script.next_reply(),
            parent=str(old["parent"]),
        )
        await _accept(websocket, frame, conversation, question, duplicate=False)
        self._begin(user, run)

    def _begin(self, user: FakeUser, run: FakeRun) -> None:
        user.runs[run.id] = run
        assert self._server.group is not None
        self._server.group.start_soon(self._reply, user, run)

    async def _reply(self, user: FakeUser, run: FakeRun) -> None:
        reply, tell = run.reply, self._server.tell
        started: Json = {"type": "run.started", "run": run.id, "conversation": run.conversation}
        await tell(user, started | {"message": run.question, "model": reply.model})
        await tell(user, {"type": "run.memories", "run": run.id, "items": reply.memories})
        for number, piece in enumerate((*reply.pieces, ""), start=0):
            if number == reply.drop_after:
                await self._server.drop_all(1012)
            if number == reply.hold_after:
                await self._server.released.wait()
            if run.stopped or not piece:
                break
            delta: Json = {"type": "run.delta", "run": run.id, "offset": len(run.text)}
            run.text += piece
            await tell(user, delta | {"text": piece})
        await self._finish(user, run)

    async def _finish(self, user: FakeUser, run: FakeRun) -> None:
        conversation, reply = user.conversations[run.conversation], run.reply
        status = "stopped" if run.stopped else reply.status
        parent = run.parent or conversation.tail()
        message: Json = {"id": run.id, "parent": parent, "role": "assistant"}
        message |= {"text": run.text, "timestamp": time.time(), "status": status}
        message |= {"model": reply.model, "reply_to": run.question}
        shown = conversation.tail()
        conversation.add(message)
        if run.parent is not None:
            conversation.head = run.id if run.text else shown
        del user.runs[run.id]
        done = _done(conversation, message) | {"finish_reason": reply.finish_reason}
        done |= {"stored": False, "kept": True} if reply.kept else {}
        if reply.garbled is not None:
            done["message"] = message | {"text": reply.garbled}
        await self._server.tell(user, done | ({"error": reply.error} if reply.error else {}))
        if run.parent is not None:
            await self._updated(user, conversation)
        await self._server.tell(user, {"type": "limits"} | self._server.script.limits)

    async def _updated(self, user: FakeUser, conversation: FakeConversation) -> None:
        updated: Json = {"type": "conversation.updated", "conversation": conversation.view()}
        await self._server.tell(user, updated)


def refusal(refused: Refusal) -> Json:
    """*refused* as it stands in an ``error`` frame, or in an answer over HTTP."""
    facts: Json = {"code": refused.code, "message": refused.message, "retryable": refused.retryable}
    if refused.retry_after_ms is not None:
        facts["retry_after_ms"] = refused.retry_after_ms
    return facts


def _done(conversation: FakeConversation, message: Json) -> Json:
    text = str(message["text"])
    done: Json = {"type": "run.done", "run": message["id"], "conversation": conversation.id}
    done |= {"status": message["status"], "message": message, "model": message["model"]}
    return done | {"chars": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


async def _accept(
    websocket: WebSocket,
    frame: Json,
    conversation: FakeConversation,
    message: str,
    *,
    duplicate: bool,
) -> None:
    accepted: Json = {"type": "accepted", "re": frame["id"], "run": f"run-{frame['id']}"}
    accepted |= {"message": message, "conversation": conversation.id, "duplicate": duplicate}
    await _send(websocket, accepted)


async def _refuse(websocket: WebSocket, frame: Json, facts: Json) -> None:
    await _send(websocket, {"type": "error", "re": frame["id"]} | facts)


async def _send(websocket: WebSocket, frame: Json) -> None:
    await websocket.send_text(json.dumps(frame))
