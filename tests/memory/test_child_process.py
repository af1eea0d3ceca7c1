from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import uvloop
from structlog.testing import capture_logs

from memory.child_process import ChildProcess, ChildTimes
from memory.errors import ChildFailed
from memory.spawn import Launch

SERVE = "import time, pathlib; pathlib.Path('ready').touch(); time.sleep(600)"
IMPATIENT = ChildTimes(probe_every_s=0.02, hung_after_s=0.2, stop_timeout_s=0.3)


class PythonChild:
    """A child that runs *code* in *folder* and serves once there is a file ``ready``."""

    name = "example"

    def __init__(self, folder: Path, code: str) -> None:
        self.folder = folder
        self.code = code
        self.deaf = False
        self.probes = 0
        self.broken: str | None = None
        self.greeting: tuple[str, ...] = ()

    async def prepare(self) -> Launch:
        if self.broken is not None:
            raise ChildFailed(self.broken)
        (self.folder / "ready").unlink(missing_ok=True)
        argv = [sys.executable, "-c", self.code]
        return Launch(argv=argv, folder=self.folder, greeting=self.greeting)

    async def answers(self) -> bool:
        self.probes += 1
        return not self.deaf and (self.folder / "ready").exists()


@asynccontextmanager
async def running(
    spec: PythonChild, times: ChildTimes | None = None
) -> AsyncIterator[ChildProcess]:
    child = ChildProcess(spec, times)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        yield child
        tasks.cancel_scope.cancel()


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not fact():  # processes are watched from outside
            await anyio.sleep(0.01)


def facts(child: ChildProcess) -> tuple[str, str | None, int]:
    return child.state, child.reason, child.restarts


def pid_of(child: ChildProcess) -> int:
    assert child.pid is not None
    return child.pid


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_is_ready_once_it_answers(tmp_path: Path) -> None:
    spec = PythonChild(tmp_path, SERVE)
    spec.deaf = True
    async with running(spec) as child:
        await until(lambda: spec.probes > 2)
        assert facts(child) == ("starting", "it has not answered yet", 0)
        with pytest.raises(ChildFailed, match="example is starting"):
            await child.wait_ready(0.01)
        spec.deaf = False
        await child.wait_ready(20)
        assert facts(child) == ("ready", None, 0)


async def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    async with running(PythonChild(tmp_path, SERVE)) as child:
        await child.wait_ready(20)
        first = pid_of(child)
        for kills in (1, 2, 3):
            os.kill(pid_of(child), signal.SIGKILL)
            await until(lambda kills=kills: child.restarts == kills)  # type: ignore[misc]  # bound
            await child.wait_ready(20)
        assert pid_of(child) != first


async def test_a_banner_and_colours_are_no_last_words(tmp_path: Path) -> None:
    lines = [
        "\x1b[38;5;069m((((\x1b[38;5;220m####\x1b[0m",
        "",
        "Hello from: here",
        "\x1b[31mbad\x1b[0m",
    ]
    spec = PythonChild(tmp_path, f"print(*{lines!r}, sep=chr(10)); raise SystemExit(1)")
    spec.greeting = ("Hello from: ",)
    with capture_logs() as logs:
        async with running(spec) as child:
            with pytest.raises(ChildFailed, match='said last: "bad"'):
                await child.wait_ready(20)
    ended = next(entry for entry in logs if entry["event"] == "child.ended")
    assert ended["last_lines"] == ["bad"]


async def test_the_last_lines_of_a_dead_child_are_logged(tmp_path: Path) -> None:
    code = "[print(f'line {n}', flush=True) for n in range(50)]; print('x' * 9999); 1 / 0"
    with capture_logs() as logs:
        async with running(PythonChild(tmp_path, code)) as child:
            with pytest.raises(ChildFailed, match=r"exited with status 1; .*ZeroDivisionError"):
                await child.wait_ready(20)
    ended = next(entry for entry in logs if entry["event"] == "child.ended")
    assert ended["log_level"] == "error"
    assert ended["outcome"] == "exited with status 1"
    assert len(ended["last_lines"]) == 20
    assert ended["last_lines"][-1].startswith("ZeroDivisionError")
    assert max(len(line) for line in ended["last_lines"]) <= 500


async def test_a_child_that_never_serves_has_failed_and_is_tried_on(tmp_path: Path) -> None:
    spec = PythonChild(tmp_path, "raise SystemExit(3)")
    async with running(spec) as child:
        await until(lambda: child.state == "failed")
        assert child.reason == "exited with status 3"
        spec.code = SERVE
        await until(lambda: child.state == "ready")
        assert child.restarts >= 3


async def test_a_child_that_cannot_be_prepared_has_failed_with_the_reason(tmp_path: Path) -> None:
    spec = PythonChild(tmp_path, SERVE)
    spec.broken = "no binary"
    async with running(spec) as child:
        with pytest.raises(ChildFailed, match="example is failed: no binary"):
            await child.wait_ready(20)
        spec.broken = None
        await until(lambda: child.state == "ready")


async def test_a_child_that_does_not_exist_has_failed(tmp_path: Path) -> None:
    spec = PythonChild(tmp_path / "nowhere", SERVE)
    async with running(spec) as child:
        with pytest.raises(ChildFailed, match="nowhere"):
            await child.wait_ready(20)


async def test_a_slow_child_is_left_alone(tmp_path: Path) -> None:
    spec = PythonChild(tmp_path, SERVE)
    async with running(spec, ChildTimes(probe_every_s=0.01)) as child:
        await child.wait_ready(20)
        pid = pid_of(child)
        spec.deaf = True
        asked = spec.probes
        await until(lambda: spec.probes > asked + 10)
        spec.deaf = False
        await until(lambda: spec.probes > asked + 20)
        assert (child.state, pid_of(child), child.restarts) == ("ready", pid, 0)


async def test_a_hung_child_is_killed_and_started_again(tmp_path: Path) -> None:
    spec = PythonChild(tmp_path, SERVE)
    async with running(spec, IMPATIENT) as child:
        await child.wait_ready(20)
        pid = pid_of(child)
        os.kill(pid, signal.SIGSTOP)
        spec.deaf = True
        await until(lambda: not alive(pid))
        spec.deaf = False
        await until(lambda: child.restarts == 1)
        await child.wait_ready(20)


async def test_a_child_is_asked_to_end_and_reaped(tmp_path: Path) -> None:
    code = """
        import pathlib, signal, sys, time
        def end(*_):
            pathlib.Path('ended').touch()
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        pathlib.Path('ready').touch()
        time.sleep(600)
    """
    async with running(PythonChild(tmp_path, textwrap.dedent(code))) as child:
        await child.wait_ready(20)
        pid = pid_of(child)
    assert (tmp_path / "ended").exists()
    assert not alive(pid)
    assert (child.state, child.pid) == ("stopped", None)


async def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVE}"
    async with running(PythonChild(tmp_path, code), IMPATIENT) as child:
        await child.wait_ready(20)
        pid = pid_of(child)
    assert not alive(pid)


async def test_a_child_that_closes_its_output_goes_on(tmp_path: Path) -> None:
    spec = PythonChild(tmp_path, f"import os; os.close(1); os.close(2); {SERVE}")
    async with running(spec, ChildTimes(probe_every_s=0.01)) as child:
        await child.wait_ready(20)
        asked = spec.probes
        await until(lambda: spec.probes > asked + 5)
        assert (child.state, child.restarts) == ("ready", 0)


async def test_the_death_of_a_child_is_seen_though_another_holds_its_output(tmp_path: Path) -> None:
    code = f"""
import subprocess, sys
heir = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open('heir', 'w').write(str(heir.pid))
{SERVE}
"""
    async with running(PythonChild(tmp_path, code), IMPATIENT) as child:
        await child.wait_ready(20)
        heir = int((tmp_path / "heir").read_text())
        os.kill(pid_of(child), signal.SIGKILL)
        try:
            await until(lambda: child.restarts == 1)
            await child.wait_ready(20)
        finally:
            os.kill(heir, signal.SIGKILL)


async def test_nothing_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("LANG", "C.UTF-8")
    descriptor = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(descriptor, True)  # noqa: FBT003  # the signature is the library's
    code = f"""
import json, os
try:
    os.fstat({descriptor})
    inherited = True
except OSError:
    inherited = False
facts = dict(inherited=inherited, session=os.getsid(0) == os.getpid(), names=list(os.environ))
open('facts', 'w').write(json.dumps(facts))
{SERVE}
"""
    async with running(PythonChild(tmp_path, code)) as child:
        await child.wait_ready(20)
    os.close(descriptor)
    found = json.loads((tmp_path / "facts").read_text())
    assert found["inherited"] is False
    assert found["session"] is True, "Ctrl-C in the terminal must not reach it"
    assert "LANG" in found["names"]
    assert "OPENAI_API_KEY" not in found["names"]


PARENT = """
import sys, anyio
from pathlib import Path
from memory.child_process import ChildProcess
from tests.memory.test_child_process import SERVE, PythonChild

async def main():
    child = ChildProcess(PythonChild(Path(sys.argv[1]), SERVE))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(20)
        print(child.pid, file=sys.stderr, flush=True)  # stdout has the log
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_no_child_survives_a_killed_server(tmp_path: Path) -> None:
    server = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with server:
        assert server.stderr is not None
        pid = int(await anyio.to_thread.run_sync(server.stderr.readline))
        assert alive(pid)
        server.kill()
    await until(lambda: not alive(pid))


def test_children_live_under_uvloop_too(tmp_path: Path) -> None:
    async def live() -> int:
        async with running(PythonChild(tmp_path, SERVE)) as child:
            await child.wait_ready(20)
            os.kill(pid_of(child), signal.SIGKILL)
            await until(lambda: child.restarts == 1)
            await child.wait_ready(20)
            return pid_of(child)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert not alive(runner.run(live()))


async def test_a_held_child_is_stopped_in_order_and_started_again_afterwards(
    tmp_path: Path,
) -> None:
    statuses: list[int] = []
    spec = PythonChild(tmp_path, "import signal, sys\n" + ORDERLY)
    child = ChildProcess(spec, on_exit=statuses.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(30)
        async with child.stopped(), child.stopped():
            assert child.pid is None
            assert child.state == "held"
            assert statuses == [0]
            await anyio.sleep(0.1)
            assert child.pid is None
        await child.wait_ready(30)
        assert child.restarts == 0
        tasks.cancel_scope.cancel()
    assert statuses == [0, 0]


ORDERLY = f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n{SERVE}"


async def test_how_a_child_ended_is_told(tmp_path: Path) -> None:
    statuses: list[int] = []
    child = ChildProcess(PythonChild(tmp_path, SERVE), on_exit=statuses.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(30)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGSEGV)
        with anyio.fail_after(30):
            while child.restarts == 0:
                await anyio.sleep(0.01)
        await child.wait_ready(30)
        tasks.cancel_scope.cancel()
    assert statuses == [-signal.SIGSEGV, -signal.SIGTERM]


async def test_a_child_that_is_between_two_starts_can_be_held(tmp_path: Path) -> None:
    spec = PythonChild(tmp_path, SERVE)
    spec.broken = "not yet"
    child = ChildProcess(spec)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        with anyio.fail_after(30):
            async with child.stopped():
                spec.broken = None
                assert child.pid is None
        await child.wait_ready(30)
        tasks.cancel_scope.cancel()
