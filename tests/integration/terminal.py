"""A terminal of its own, driven as a person would: keys in, screen out (tmux)."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from tests.integration.running_server import ROOT

SEEN_WITHIN_S = 30.0


class NotSeen(Exception):
    """What was expected did not come up; the message is the screen."""


class Terminal:
    """One tmux session on a server of its own, at *socket*."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Press keys by their tmux names, such as ``Enter`` or ``C-c``."""
        self.tmux("send-keys", *keys)

    def type(self, line: str) -> None:
        """Type *line* and press Enter."""
        self.tmux("send-keys", "-l", line)
        self.keys("Enter")

    def screen(self) -> str:
        """All that was shown so far, without colours; wrapped lines are joined."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-")

    def wait(self, seen: Callable[[str], bool], within_s: float = SEEN_WITHIN_S) -> str:
        """Look until the screen is as expected."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            screen = self.screen()
            if seen(screen):
                return screen
            time.sleep(0.02)
        raise NotSeen(screen)

    def wait_for(self, text: str) -> str:
        return self.wait(lambda screen: text in screen)

    def wait_prompt(self) -> str:
        """Wait until the last line is an empty prompt."""
        return self.wait(lambda screen: screen.rstrip().endswith("\n>"))


@contextmanager
def terminal(
    folder: Path, command: list[str], environment: Mapping[str, str]
) -> Iterator[Terminal]:
    """*command* in a terminal of 100 by 40; what happens after its end stays on the screen."""
    socket = folder / f"tmux-{token_hex(4)}"
    shown = Terminal(socket)
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TANDEM_", "OPENAI_", "TMUX"))
    }
    # The shell survives the Ctrl-C that it gets together with the command.
    line = f"trap : INT; {shlex.join(command)}; echo ended with $?; exec cat"
    session = ["new-session", "-d", "-x", "100", "-y", "40", "sh", "-c", line]
    subprocess.run(
        ["tmux", "-S", str(socket), "-f", "/dev/null", *session],
        cwd=ROOT,
        env={**clean, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        timeout=20,
        check=True,
    )
    try:
        yield shown
    finally:
        shown.tmux("kill-server")
