"""The programs in the documentation run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running_server import ROOT, RunningServer
from tests.stub_model import Mode, StubModel

pytestmark = [pytest.mark.redis, pytest.mark.chroma, pytest.mark.model_files]


@pytest.mark.parametrize("document", ["README.md", "docs/client.md", "docs/protocol.md"])
def test_the_example_runs_and_shows_the_reply(
    document: str, server: RunningServer, stub: StubModel, tmp_path: Path
) -> None:
    stub.mode = Mode(text="Well, hello there.")
    text = (ROOT / document).read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert "http://127.0.0.1:8000" in program
    address = server.url.partition("://")[2]
    file = tmp_path / "bot.py"
    file.write_text(program.replace("127.0.0.1:8000", address))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Well, hello there." in done.stdout
    assert not done.stderr
