from __future__ import annotations

import resource
import subprocess
import sys

import structlog

from chat_server.file_limit import raise_file_limit


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    """In a process of its own: a limit that was lowered for all tests would harm them."""
    program = (
        "import resource; from chat_server.file_limit import raise_file_limit\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))\n"
        "assert raise_file_limit(10) == hard\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_limit_that_does_not_do_is_logged() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most == resource.RLIM_INFINITY:
        return
    with structlog.testing.capture_logs() as logs:
        raise_file_limit(most)
    assert [line["event"] for line in logs] == ["server.few_files"]
