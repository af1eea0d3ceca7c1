"""Programs as processes of their own, and what each part of a process tree costs (Linux)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 30.0
POLL_S = 0.02
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PARTS = {"chroma": ("chroma",), "redis": ("redis-server", "valkey-server")}
"""Parts of a server's tree by words of their command line; what fits none is ``server``."""


class Failed(Exception):
    """A program did not do what was asked; the message holds the end of its output."""


class Usage(msgspec.Struct):
    """CPU seconds since the start, and resident bytes, by part."""

    at_s: float
    cpu_s: dict[str, float]
    rss_bytes: dict[str, int]


class Program:
    """A running program, its output in *output*."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self.output = output

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_line(self, word: str, within_s: float = READY_WITHIN_S) -> str:
        """The first line of the output that holds *word*, waiting for it."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            text = self.output.read_text()
            for line in text.splitlines(keepends=True):
                if word in line and line.endswith("\n"):
                    return line.strip()
            if self.process.poll() is not None:
                break
            time.sleep(POLL_S)
        raise Failed(f"{self.output.name}: no {word!r}\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.output.read_text().splitlines()[-30:])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(argv: Sequence[str], output: Path, environment: Mapping[str, str]) -> Iterator[Program]:
    """Run *argv* in the project's folder, without settings of the caller's own; stopped at the
    end.
    """
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("TANDEM_", "OPENAI_"))
    }
    with output.open("wb") as sink:
        process = subprocess.Popen(
            list(argv),
            cwd=ROOT,
            env={**inherited, "PYTHONUNBUFFERED": "1", **environment},
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    program = Program(process, output)
    try:
        yield program
    finally:
        program.stop()


def usage(pid: int) -> Usage:
    """What the tree below *pid* has used; exited children no longer count."""
    cpu_s: dict[str, float] = {}
    rss_bytes: dict[str, int] = {}
    for member in _tree(pid):
        try:
            part = "server" if member == pid else _part(member)
            fields = _stat(member)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        cpu_s[part] = cpu_s.get(part, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS_PER_S
        resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        rss_bytes[part] = rss_bytes.get(part, 0) + resident
    return Usage(time.monotonic(), cpu_s, rss_bytes)


def machine_times() -> tuple[float, float]:
    """Busy and all seconds of all cores since the machine started (proc(5), stat)."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    seconds = [float(field) / TICKS_PER_S for field in line.split()[1:9]]
    idle_s = seconds[3] + seconds[4]
    return sum(seconds) - idle_s, sum(seconds)


def part_of(command_line: str) -> str:
    """Which part of a server the process with *command_line* is."""
    for part, words in PARTS.items():
        if any(word in command_line for word in words):
            return part
    return "server"


def _part(pid: int) -> str:
    return part_of(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())


def _tree(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    members = [pid]
    for member in members:
        members.extend(parents.get(member, []))
    return members


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) stat from the third on; the second, the name, may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
