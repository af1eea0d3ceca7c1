from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from memory.messages import UserId
from memory.warm_files import WarmFiles

ADA, BEN = UserId("ada"), UserId("ben")


def put(files: WarmFiles, user: UserId, data: bytes) -> None:
    assert files.write(user, files.ticket(user), data)


def test_each_user_has_a_file_that_only_the_owner_reads_and_that_names_nobody(
    tmp_path: Path,
) -> None:
    files = WarmFiles(tmp_path / "warm")
    assert files.read(ADA) is None
    put(files, ADA, b"one")
    put(files, ADA, b"two")
    put(files, BEN, b"other")
    assert (files.read(ADA), files.read(BEN)) == (b"two", b"other")
    paths = list((tmp_path / "warm").iterdir())
    assert len(paths) == 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    assert (tmp_path / "warm").stat().st_mode & 0o777 == 0o700
    assert not any("ada" in path.name for path in paths)


def test_nothing_is_left_of_who_is_forgotten_nor_written_with_an_older_ticket(
    tmp_path: Path,
) -> None:
    files = WarmFiles(tmp_path)
    put(files, ADA, b"one")
    put(files, BEN, b"other")
    ticket = files.ticket(ADA)
    files.forget(ADA)
    files.forget(ADA)
    assert not files.write(ADA, ticket, b"late")
    assert (files.read(ADA), files.read(BEN)) == (None, b"other")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_void_ticket_keeps_what_stands(tmp_path: Path) -> None:
    files = WarmFiles(tmp_path)
    put(files, ADA, b"one")
    ticket = files.ticket(ADA)
    files.void(ADA)
    assert not files.write(ADA, ticket, b"two")
    assert files.read(ADA) == b"one"


def test_all_are_cleared_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    files = WarmFiles(tmp_path)
    put(files, ADA, b"one")
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "left.tmp").write_text("killed here")
    files.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_the_oldest_go_when_there_is_too_much(tmp_path: Path) -> None:
    files = WarmFiles(tmp_path, most_bytes=25)
    for age, user in enumerate(("a", "b", "c")):
        put(files, UserId(user), b"x" * 10)
        for path in tmp_path.iterdir():
            stat = path.stat()
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - (3 - age) * 10**9))
    assert files.read(UserId("a")) is None
    assert files.read(UserId("c")) == b"x" * 10


def other_process(folder: Path, code: str) -> subprocess.Popen[bytes]:
    """A process that does *code* with ``files`` and ``ada``, and waits in ``said()``."""
    return subprocess.Popen(
        [sys.executable, "-c", OTHER + code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


OTHER = """
import sys
from pathlib import Path
from memory.messages import UserId
from memory.warm_files import WarmFiles
files, ada = WarmFiles(Path(sys.argv[1])), UserId("ada")
def said():
    print("said", flush=True)
    sys.stdin.readline()
"""


def test_of_two_processes_that_write_the_later_one_s_file_stands_whole(tmp_path: Path) -> None:
    files = WarmFiles(tmp_path)
    code = "ticket = files.ticket(ada); said(); assert files.write(ada, ticket, b'theirs')"
    with other_process(tmp_path, code) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"said\n"
        put(files, ADA, b"ours")
        other.stdin.write(b"go\n")
        other.stdin.close()
        assert other.wait(20) == 0
    assert files.read(ADA) == b"theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_another_process_is_writing_is_taken_from_it(tmp_path: Path) -> None:
    files = WarmFiles(tmp_path)
    code = "Path.rename = lambda *_: (said(), sys.exit('killed')); "
    code += "files.write(ada, files.ticket(ada), b'half')"
    with other_process(tmp_path, code) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"said\n"
        assert len(list(tmp_path.iterdir())) == 1
        files.forget(ADA)
        assert list(tmp_path.iterdir()) == []
        other.kill()
