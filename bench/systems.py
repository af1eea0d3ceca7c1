"""The stub model, Tandem, and the naive server, started for a measurement."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.figures import Histogram, histograms
from bench.processes import ROOT, Failed, Program, Usage, running, usage

NO_LIMIT = "100000000"
STUB_TIMEOUT_S = 60.0
TEXT = (
    "If it were mine, the old house by the river would keep its green door and the small table "
    "in front of it. Ask them what they like to read, and bring bread, pears and a map of the "
    "north. Walk there early, before the rain, and write me."
)
"""Words of one token each, for the model as for the embedder; 50 of them."""
MODELS = Path(os.environ.get("TEST_MODELS_FOLDER", ROOT / ".cache" / "models"))


class Asked(msgspec.Struct, kw_only=True):
    """A request as the stub saw it; seconds of the monotonic clock."""

    body: dict[str, Any]
    received_s: float
    first_token_s: float | None = None
    ended_s: float | None = None


class Stub:
    """The model's server, and what it was asked."""

    def __init__(self, program: Program, base_url: str) -> None:
        self.program = program
        self.base_url = base_url
        self._http = httpx.Client(base_url=base_url.removesuffix("/v1"), timeout=STUB_TIMEOUT_S)

    def answer(self, *, tokens: int, first_token_ms: float, token_ms: float) -> None:
        """Answer so from now on, and forget what was asked."""
        text = " ".join(islice(cycle(TEXT.split()), tokens))
        mode = {"text": text, "first_token_ms": first_token_ms, "token_ms": token_ms}
        self._http.post("/mode", json=mode).raise_for_status()
        self._http.delete("/requests").raise_for_status()

    def usage(self) -> Usage:
        return usage(self.program.pid)

    def asked(self) -> dict[str, Asked]:
        """The requests, by the text of the message that was to be answered."""
        answer = self._http.get("/requests").raise_for_status()
        requests = msgspec.json.decode(answer.content, type=list[Asked])
        return {request.body["messages"][-1]["content"]: request for request in requests}


class System:
    """A chat server under measurement."""

    def __init__(self, name: str, program: Program) -> None:
        self.name = name
        self.program = program
        line = program.wait_line("server.ready")
        self.url: str = json.loads(line)["address"]

    def usage(self) -> Usage:
        """What its processes have used.

        Raises:
            Failed: it has ended.
        """
        if self.program.process.poll() is not None:
            raise Failed(f"{self.name} ended\n{self.program.tail()}")
        return usage(self.program.pid)

    def histograms(self) -> dict[str, Histogram]:
        """What it counts itself; nothing where there is no ``/metrics``."""
        answer = httpx.get(f"{self.url}/metrics", timeout=STUB_TIMEOUT_S)
        return histograms(answer.text) if answer.is_success else {}


@contextmanager
def open_stub(folder: Path) -> Iterator[Stub]:
    argv = [sys.executable, str(ROOT / "tests" / "stub_model.py"), "--port", "0"]
    with running(argv, folder / "stub.log", {}) as program:
        yield Stub(program, program.wait_line("http://"))


@contextmanager
def open_system(
    name: str, folder: Path, stub: Stub, more: Mapping[str, str] | None = None
) -> Iterator[System]:
    """Start *name* (``tandem``, ``workers``: the same as two processes, or ``naive``) on an empty
    data folder, with its limits raised, and *more* in its environment.
    """
    argv, environment = _naive(folder) if name == "naive" else _tandem(folder / name)
    if name == "workers":
        environment["TANDEM_SERVER__WORKERS"] = "2"
    environment |= {"OPENAI_BASE_URL": stub.base_url, "OPENAI_API_KEY": "bench", **(more or {})}
    with running(argv, folder / f"{name}.log", environment) as program:
        yield System(name, program)


def _tandem(data_dir: Path) -> tuple[list[str], dict[str, str]]:
    (data_dir / "models").mkdir(parents=True)
    prepared = MODELS / "all-MiniLM-L6-v2"
    if prepared.exists():  # else it is made at the start
        (data_dir / "models" / prepared.name).symlink_to(prepared)
    environment = {
        "TANDEM_DATA_DIR": str(data_dir),
        "TANDEM_LIMITS__PER_USER": "10000",
        "TANDEM_LIMITS__GLOBAL": NO_LIMIT,
        "TANDEM_LIMITS__HTTP": f"{NO_LIMIT}/minute",
        "LOG_LEVEL": "INFO",
    }
    return [sys.executable, "-m", "chat_server", "serve", "--port", "0"], environment


def _naive(folder: Path) -> tuple[list[str], dict[str, str]]:
    data_dir = folder / "naive"
    data_dir.mkdir()
    argv = [sys.executable, str(ROOT / "bench" / "naive.py"), "--data", str(data_dir)]
    return argv, {"OMP_NUM_THREADS": "1"}
