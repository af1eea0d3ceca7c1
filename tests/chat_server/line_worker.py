"""Stands for a worker: says that it is ready, repeats what it hears, and answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any


class LineWorker:
    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._writing = threading.RLock()
        self._slot = 0

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        with self._line.makefile("rb") as lines:
            for text in lines:
                message = json.loads(text)
                self._hear(message["body"])
                if "asks" in message:
                    self._say(self._answer(message["body"]), answers=message["asks"])

    def _hear(self, body: dict[str, Any]) -> None:
        match body["type"]:
            case "Welcome":
                self._slot = body["slot"]
                threading.Thread(target=self._beat, daemon=True).start()
            case "StoreState":
                self._say({"type": "Asked", "collections": [body["address"]]})
            case "Hold":
                self._repeat(f"Hold {body['number']} {body['batches_only']}")
            case "LetGo":
                self._repeat(f"LetGo {body['number']}")

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["type"] != "Gather":
            return {"type": "Done"}
        lately = {"throttled": 1}
        own = {"slot": self._slot, "pid": os.getpid(), "since": 1.0, "lately": lately}
        return {"type": "Gathered", "figures": [own]}

    def _beat(self) -> None:
        while True:
            self._say({"type": "Beat", "ready": True})
            time.sleep(0.05)

    def _end(self, *_: object) -> None:
        self._repeat("SIGTERM")
        os._exit(0)

    def _repeat(self, heard: str) -> None:
        self._say({"type": "Suspected", "collection": heard, "damage": "stuck"})

    def _say(self, body: dict[str, Any], **more: int) -> None:
        with self._writing:
            self._line.sendall(json.dumps({"body": body, **more}).encode() + b"\n")


if __name__ == "__main__":
    LineWorker(socket.socket(fileno=int(sys.argv[1]))).run()
