"""One planned fault: what is done, and what must hold."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.chaos.logbook import AnyEntry, Refused
from tests.chaos.scene import Books, Scene, Stage
from tests.chaos.world import wait_until

ATTACHED_WITHIN_S: Final = 10.0


class NotHere(Exception):
    """The fault cannot be made on this machine; says why."""


class Place(NamedTuple):
    """An empty folder for a fault; *short*: everything that takes time takes less."""

    folder: Path
    model_folder: Path
    short: bool

    def scene(
        self,
        *,
        users: int = 4,
        per_second: float = 20.0,
        environment: Mapping[str, str] | None = None,
    ) -> Scene:
        """Users and a server in the folder."""
        return Scene(
            self.folder,
            self.model_folder,
            users=users,
            per_second=per_second,
            environment=environment,
        )


class Fault(NamedTuple):
    """A fault by name; *make* returns what was seen, in a sentence.

    It raises ``AssertionError`` when something does not hold, ``NotHere`` where it cannot be made.
    """

    name: str
    rows: tuple[int, ...]
    make: Callable[[Place], str]


def kept(books: Books) -> str:
    """What was kept, in a few words; ``AssertionError`` when a promise was broken."""
    told = "; ".join(f"{f.kind}: {f.subject}: {f.detail}" for f in books.findings[:10])
    assert not books.findings, f"{len(books.findings)} broken promises: {told}"
    return f"{len(books.records)} records, no promise broken"


def refusals(entries: list[AnyEntry], since: float, until: float) -> dict[str, int]:
    """How often which error was told between two times."""
    codes: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, Refused) and since <= entry.t <= until:
            codes[entry.code] = codes.get(entry.code, 0) + 1
    return codes


@contextmanager
def tampered(pid: int, *options: str) -> Iterator[None]:
    """Meanwhile the system calls of process *pid* go wrong as strace's *options* say.

    Raises:
        NotHere: there is no strace, or it may not attach.
    """
    if shutil.which("strace") is None:
        raise NotHere("strace is not installed")
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-o", os.devnull, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            raise NotHere(f"strace cannot attach: {said.strip()}")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go of what it traces
        tracer.wait(ATTACHED_WITHIN_S)
        if tracer.stderr is not None:
            tracer.stderr.close()


def wait_gone(stage: Stage, pid: int, within_s: float) -> float:
    """Wait until the Chroma child *pid* was followed by another one; when that was seen."""
    wait_until(
        lambda: stage.world.server.child_pid("chroma") != pid, within_s, f"{pid} did not end"
    )
    return time.monotonic()
