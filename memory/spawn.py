"""Starting, signalling and awaiting a process that must not outlive this one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
"""What a child sees of the environment: nothing secret."""

PR_SET_PDEATHSIG: Final = 1
EXIT_POLL_S: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a child once: absolute paths, run in *folder*."""

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    greeting: tuple[str, ...] = ()
    """How lines begin that it writes at every start: they do not tell why it ended."""
    descriptors: tuple[int, ...] = ()
    """What it inherits of ours, under the same numbers."""
    logs: bool = False
    """It writes its own log to our standard error; what it prints is read all the same."""


def spawn(launch: Launch) -> subprocess.Popen[bytes]:
    """Start a process: a session of its own, no descriptors but the named ones, one pipe for all
    it writes, or for what it prints.

    Not asyncio's own way, because uvloop's does not close inherited descriptors.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(  # noqa: S603  # the command is our own, without a shell
        launch.argv,
        cwd=launch.folder,
        env={name: os.environ[name] for name in INHERITED if name in os.environ}
        | dict(launch.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if launch.logs else subprocess.STDOUT,
        close_fds=True,
        pass_fds=launch.descriptors,
        start_new_session=True,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509  # one system call, loaded before the fork
    )


def _die_with_parent() -> Callable[[], None] | None:
    """What a new child does first so that it does not survive the server: prctl(2), Linux only.

    SIGTERM and not SIGKILL: Chroma then closes its index files in order (0.1 s), which a kill
    in the middle of a write would break.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_for_signal() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return ask_for_signal


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal *process*, which was not reaped yet, and all that it started."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of zombies
        return


async def exited(process: subprocess.Popen[bytes]) -> None:
    """Return once *process* is gone and reaped."""
    while process.poll() is None:  # noqa: ASYNC110  # no event tells it on every platform
        await anyio.sleep(EXIT_POLL_S)


def outcome(process: subprocess.Popen[bytes]) -> str:
    """How *process*, which was reaped, has ended."""
    status = int(process.returncode)
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exited with status {status}"
