"""The index of the private Chroma is broken, in every way that was seen or can be thought of."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.chaos.chroma_child import index_folder, wait_healed
from tests.chaos.fault import Fault, Place, kept, tampered, wait_gone
from tests.chaos.scene import Stage
from tests.chaos.store_files import read_files
from tests.chaos.world import wait_until

PERSISTED_WITHIN_S: Final = 120.0
"""The index is written after each 200 records; a busy machine takes its time for these."""
PICKLE: Final = "index_metadata.pickle"
FILES: Final = (PICKLE, "header.bin", "data_level0.bin", "length.bin", "link_lists.bin")


class Damage(NamedTuple):
    """A way to break the files in an index's folder."""

    name: str
    do: Callable[[Path], object]


def truncate(name: str) -> Damage:
    def do(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate((folder / name).stat().st_size // 2)

    return Damage(f"{name} cut in half", do)


def zero(name: str) -> Damage:
    def do(folder: Path) -> None:
        (folder / name).write_bytes(bytes((folder / name).stat().st_size))

    return Damage(f"{name} full of zeros", do)


def remove(name: str) -> Damage:
    return Damage(f"{name} missing", lambda folder: (folder / name).unlink())


def empty(name: str) -> Damage:
    return Damage(f"{name} empty", lambda folder: (folder / name).write_bytes(b""))


DAMAGES: Final = (
    *(truncate(name) for name in FILES),
    *(zero(name) for name in FILES),
    *(remove(name) for name in FILES),
    *(empty(name) for name in (PICKLE, "data_level0.bin")),
    Damage("the folder missing", shutil.rmtree),
)
DAMAGES_A_SCENE: Final = 4
"""Users talk meanwhile: in one scene the index would grow to many thousands."""
SHORT_DAMAGES: Final = (truncate(PICKLE), zero("link_lists.bin"), truncate("data_level0.bin"))


def damaged_files(place: Place) -> str:
    """Each shape of damage, found at the next start: history at once, recall complete soon."""
    damages = SHORT_DAMAGES if place.short else DAMAGES
    worst_s, records = 0.0, 0
    for first in range(0, len(damages), DAMAGES_A_SCENE):
        folder = place.folder / str(first)
        some = damages[first : first + DAMAGES_A_SCENE]
        worst_s = max(worst_s, damage_each(place._replace(folder=folder), some))
        records += len(read_files(folder / "data"))
    return (
        f"{len(damages)} shapes of damage, recall complete {worst_s:.1f} s after the start "
        f"at the latest; {records} records, no promise broken"
    )


def damage_each(place: Place, damages: Sequence[Damage]) -> float:
    """Make *damages* one after the other; seconds until the index was whole again, at worst."""
    worst_s = 0.0

    def fault(stage: Stage) -> None:
        nonlocal worst_s
        for damage in damages:
            wait_persisted(stage)
            stage.world.kill_server(children=False)
            damage.do(index_folder(stage.world.data_dir))
            stage.world.start()
            started_at = time.monotonic()
            try:
                stage.wait_accepted(started_at)
                worst_s = max(worst_s, wait_healed(stage.world, started_at))
            except AssertionError as failure:
                raise AssertionError(f"{damage.name}: {failure}") from failure

    kept(place.scene().play(fault))
    return worst_s


def killed_in_persist(place: Place) -> str:
    """``kill -9`` while Chroma writes the index; it comes back and heals by itself."""
    figures: list[float] = []

    def fault(stage: Stage) -> None:
        wait_persisted(stage)
        for name in (PICKLE,) if place.short else FILES:
            file = index_folder(stage.world.data_dir) / name
            pid = stage.world.server.child_pid("chroma")
            kill = "inject=write,pwrite64,writev:signal=KILL:when=1"
            with tampered(pid, "-P", str(file), "-e", "trace=write,pwrite64,writev", "-e", kill):
                dead_at = wait_gone(stage, pid, PERSISTED_WITHIN_S)
            figures.append(stage.wait_accepted(dead_at))
            try:
                wait_healed(stage.world, dead_at)
            except AssertionError as failure:
                raise AssertionError(f"killed while writing {name}: {failure}") from failure
            wait_persisted(stage)

    books = place.scene().play(fault)
    return (
        f"killed {len(figures)} times, accepting again after {max(figures):.2f} s at most; "
        f"{kept(books)}"
    )


def wait_persisted(stage: Stage) -> None:
    """Wait until the index's files were written anew."""
    began = time.time()

    def written() -> bool:
        folder = index_folder(stage.world.data_dir)
        return all(
            (folder / name).exists() and (folder / name).stat().st_mtime > began
            for name in (PICKLE, "header.bin")
        )

    wait_until(written, PERSISTED_WITHIN_S, "the index was not written")
    time.sleep(0.2)  # what else is being written; a file that is cut short is as good


FAULTS: Final = (
    Fault("index files damaged", (2,), damaged_files),
    Fault("kill -9 while the index is written", (2,), killed_in_persist),
)
