"""The disk is full, or fails."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.chaos.fault import Fault, NotHere, Place, kept, refusals, tampered
from tests.chaos.logbook import Accepted
from tests.chaos.scene import Stage

TMPFS: Final = "size=160m"
FULL_S: Final = 8.0
SHORT_S: Final = 3.0


def full_disk(place: Place) -> str:
    """No byte is free for a while: clear errors, nothing lost, and on it goes with space."""
    codes: dict[str, int] = {}
    back_s = 0.0

    def fault(stage: Stage) -> None:
        nonlocal codes, back_s
        ballast = stage.world.data_dir / "ballast"
        fill(ballast)
        full_at = time.monotonic()
        time.sleep(SHORT_S if place.short else FULL_S)
        ballast.unlink()
        free_at = time.monotonic()
        codes = refusals(stage.entries(), full_at, free_at)
        back_s = stage.wait_accepted(free_at)

    with small_disk(place.folder / "data"):
        books = place.scene().play(fault)
    assert codes.keys() <= {"not_stored", "store_unknown", "store_busy"}, codes
    assert codes, "a full disk was not told to anybody"
    return f"told {codes}; accepting again {back_s:.2f} s after space came; {kept(books)}"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Meanwhile *folder* is a disk of its own, a small one.

    Raises:
        NotHere: only root may mount.
    """
    folder.mkdir(parents=True)
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", TMPFS, "none", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
    )
    if not mounted:
        raise NotHere("a small disk cannot be mounted here (root only)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write until no byte is free, and again as others give some back."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def failing_fsync(place: Place) -> str:
    """Chroma's disk says EIO to each fsync for a while: nothing is accepted meanwhile that is
    not there in the end.
    """
    told: dict[str, int] = {}
    meanwhile = 0

    def fault(stage: Stage) -> None:
        nonlocal told, meanwhile
        pid = stage.world.server.child_pid("chroma")
        with tampered(pid, "-e", "inject=fsync,fdatasync:error=EIO"):
            began = time.monotonic()
            time.sleep(SHORT_S if place.short else FULL_S)
            ended = time.monotonic()
        told = refusals(stage.entries(), began, ended)
        meanwhile = sum(
            isinstance(entry, Accepted) and began + 1 < entry.t < ended for entry in stage.entries()
        )
        stage.wait_accepted(time.monotonic())
        stage.world.kill_server(children=True)  # what was only in memory is gone with it
        stage.world.start()

    books = place.scene().play(fault)
    assert not meanwhile, f"{meanwhile} messages were accepted although fsync failed"
    return f"told {told}; {kept(books)}"


FAULTS: Final = (
    Fault("full disk", (5,), full_disk),
    Fault("fsync fails with EIO", (4,), failing_fsync),
)
