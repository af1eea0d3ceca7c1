"""Fixtures that every test may use, and what CI does not accept."""

from __future__ import annotations

import os

import pytest

from tests.model_folder import prepared_model_folder

__all__ = ["prepared_model_folder"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With ``CI`` set, a skipped test is a failure: there, everything that should run can."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if reporter and skipped and os.environ.get("CI"):
        reporter.write_line(f"CI: {skipped} skipped tests are failures here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
