from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import msgspec
import pytest

from memory import __version__
from memory.errors import UpkeepRefused
from memory.upkeep import manifest
from memory.upkeep.backup import back_up
from memory.upkeep.vector_segments import DATABASE
from tests.memory.upkeep.store_world import filled, ignore

pytestmark = pytest.mark.chroma


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    anyio.run(filled, folder / "data")
    back_up(folder / "data", folder / "backup", ignore)
    return folder / "backup"


@pytest.fixture
def backup(whole: Path, tmp_path: Path) -> Path:
    """A backup that may be damaged."""
    return shutil.copytree(whole, tmp_path / "backup")


def test_the_version_is_the_server_s() -> None:
    import chat_server  # noqa: PLC0415  # the rest of memory's tests do without it

    assert chat_server.__version__ == __version__


def test_what_is_written_is_read(backup: Path) -> None:
    found = manifest.read(backup)
    manifest.write(backup, found)
    assert manifest.read(backup) == found
    assert {it.name: it.records for it in found.collections} == {"user_.meta": 3, "user_00": 15}


@pytest.mark.parametrize("at", [0, 100, 5_000, -1])
def test_one_flipped_bit_is_found(backup: Path, at: int) -> None:
    content = bytearray((backup / DATABASE).read_bytes())
    content[at] ^= 1
    (backup / DATABASE).write_bytes(content)
    with pytest.raises(UpkeepRefused, match="was altered"):
        manifest.checked(backup, ignore)


def test_a_torn_file_is_found(backup: Path) -> None:
    content = (backup / DATABASE).read_bytes()
    (backup / DATABASE).write_bytes(content[: len(content) // 2])
    with pytest.raises(UpkeepRefused, match=r"bytes instead of"):
        manifest.checked(backup, ignore)
    (backup / DATABASE).unlink()
    with pytest.raises(UpkeepRefused, match=r"cannot be read: No such file"):
        manifest.checked(backup, ignore)


def test_a_folder_without_a_manifest_or_with_a_torn_one_is_no_backup(
    backup: Path, tmp_path: Path
) -> None:
    path = backup / manifest.MANIFEST
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UpkeepRefused, match="cannot be read"):
        manifest.checked(backup, ignore)
    path.unlink()
    with pytest.raises(UpkeepRefused, match="is not a backup"):
        manifest.checked(backup, ignore)
    with pytest.raises(UpkeepRefused, match="is not a backup"):
        manifest.checked(tmp_path / "nowhere", ignore)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, and this version reads 1"),
        ({"users": 4}, "does not describe the database"),
        ({"collections": []}, "does not describe the database"),
        ({"files": {"../other": manifest.FileFacts(1, "")}}, "outside of the backup"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    backup: Path, change: dict[str, object], message: str
) -> None:
    manifest.write(backup, msgspec.structs.replace(manifest.read(backup), **change))
    with pytest.raises(UpkeepRefused, match=message):
        manifest.checked(backup, ignore)


def test_a_database_that_is_damaged_but_hashed_so_is_found(backup: Path) -> None:
    database = backup / DATABASE
    content = bytearray(database.read_bytes())
    content[20_000:40_000] = bytes(20_000)
    database.write_bytes(content)
    files = {DATABASE: manifest.file_facts(database)}
    manifest.write(backup, msgspec.structs.replace(manifest.read(backup), files=files))
    with pytest.raises(UpkeepRefused, match=r"is damaged|cannot be read"):
        manifest.checked(backup, ignore)
