from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from memory.spawn import INHERITED, Launch, exited, outcome, signal_group, spawn

REPORT = """
import json, os
print(json.dumps({
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "session": os.getsid(0) == os.getpid(),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    "input": os.read(0, 1).decode(),
}))
"""


def python(folder: Path, code: str, **environment: str) -> Launch:
    return Launch(argv=[sys.executable, "-c", code], folder=folder, environment=environment)


def finished(process: subprocess.Popen[bytes]) -> str:
    """Everything it wrote, once it is gone."""
    written, _ = process.communicate(timeout=20)
    return written.decode()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_child_gets_nothing_of_ours_but_what_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003  # the name of the argument is in the function's
    try:
        told = json.loads(finished(spawn(python(tmp_path, REPORT, NAMED="yes"))))
    finally:
        os.close(reading)
        os.close(writing)
    assert set(told["environment"]) <= {*INHERITED, "NAMED", "LC_CTYPE"}
    assert told["environment"]["NAMED"] == "yes"
    assert told["environment"]["PATH"] == os.environ["PATH"]
    assert Path(told["folder"]) == tmp_path.resolve()
    assert told["session"]
    assert told["descriptors"][:3] == [0, 1, 2]
    assert len(told["descriptors"]) == 4, "the fourth is the folder that is being listed"
    assert told["input"] == ""


def test_what_it_writes_comes_through_one_pipe_in_order(tmp_path: Path) -> None:
    code = "import os; os.write(1, b'one '); os.write(2, b'two '); os.write(1, b'three')"
    assert finished(spawn(python(tmp_path, code))) == "one two three"


def test_a_program_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        spawn(Launch(argv=[str(tmp_path / "nowhere")], folder=tmp_path))


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("", "exited with status 0"),
        ("raise SystemExit(7)", "exited with status 7"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("import os; os.kill(os.getpid(), 15)", "ended by SIGTERM"),
    ],
)
async def test_how_it_ended_is_said(tmp_path: Path, code: str, how: str) -> None:
    with spawn(python(tmp_path, code)) as process, anyio.fail_after(20):
        await exited(process)
        assert outcome(process) == how


async def test_a_signal_reaches_what_it_started_too(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'print(1, flush=True); input()'],"
        " stdin=subprocess.PIPE).wait()"
    )
    with spawn(python(tmp_path, code)) as process, anyio.fail_after(20):
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        signal_group(process, signal.SIGTERM)
        await exited(process)
        assert process.stdout.read() == b"", "nobody holds the pipe any more"


async def test_signalling_what_is_gone_is_no_error(tmp_path: Path) -> None:
    with spawn(python(tmp_path, "")) as process:
        await exited(process)
        signal_group(process, signal.SIGTERM)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own signal, Linux only")
def test_a_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    parent = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from memory.spawn import Launch, spawn\n"
        "child = spawn(Launch(argv=[sys.executable, '-c', 'import time; print(1, flush=True);"
        f" time.sleep(60)'], folder=Path({str(tmp_path)!r})))\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 20
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether *pid* runs: an orphan may stay a zombie where nobody reaps it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_is_named_is_inherited_and_its_log_goes_where_ours_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    code = (
        f"import os, sys; os.write({writing}, b'here'); print('said'); sys.stderr.write('logged')"
    )
    launch = Launch(
        argv=[sys.executable, "-c", code], folder=tmp_path, descriptors=(writing,), logs=True
    )
    try:
        assert finished(spawn(launch)) == "said\n"
        assert os.read(reading, 10) == b"here"
    finally:
        os.close(reading)
        os.close(writing)
    assert capfd.readouterr().err == "logged"
