from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from memory import model_files
from memory.errors import ModelFilesInvalid
from memory.model_files import MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE, open_files, prepare

pytestmark = pytest.mark.model_files


def ignore(_step: str, _done: float) -> None:
    pass


def refuse(step: str, _done: float) -> None:
    raise AssertionError(f"nothing should be done, but: {step}")


@pytest.fixture
def folder(prepared_model_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(prepared_model_folder, tmp_path / "model")


def damaged(folder: Path) -> ModelFilesInvalid:
    with pytest.raises(ModelFilesInvalid) as caught:
        open_files(folder)
    return caught.value


def run_memory(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memory", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_prepared_folder_is_described(prepared_model_folder: Path) -> None:
    files = open_files(prepared_model_folder)
    assert (files.name, files.dimension, files.max_tokens) == ("all-MiniLM-L6-v2", 384, 256)
    assert model_files.WEIGHTS_SHA256.startswith(files.fingerprint.rpartition(":")[2])
    assert files.model.is_file()
    assert files.tokenizer.is_file()


@pytest.mark.parametrize("name", [MODEL_FILE, TOKENIZER_FILE, MANIFEST_FILE])
def test_a_missing_file_is_named_with_what_to_do(folder: Path, name: str) -> None:
    (folder / name).unlink()
    fault = damaged(folder)
    assert fault.path == folder / name
    assert "make setup" in str(fault)


@pytest.mark.parametrize("name", [MODEL_FILE, TOKENIZER_FILE, MANIFEST_FILE])
def test_a_truncated_file_is_named(folder: Path, name: str) -> None:
    path = folder / name
    os.truncate(path, path.stat().st_size // 2)
    assert damaged(folder).path == path


@pytest.mark.parametrize("name", [MODEL_FILE, TOKENIZER_FILE])
def test_one_altered_byte_is_noticed(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert damaged(folder).path == folder / name


def test_a_folder_of_another_version_is_refused(folder: Path) -> None:
    path = folder / MANIFEST_FILE
    manifest = msgspec.json.decode(path.read_bytes(), type=model_files.Manifest)
    other = msgspec.structs.replace(manifest, fingerprint="all-MiniLM-L6-v2:int8-0:older")
    path.write_bytes(msgspec.json.encode(other))
    assert "another version" in damaged(folder).problem


def test_a_valid_folder_is_left_alone(folder: Path) -> None:
    before = (folder / MODEL_FILE).stat().st_ino
    prepare(folder, refuse)
    assert (folder / MODEL_FILE).stat().st_ino == before


def test_a_damaged_folder_is_made_anew(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"not a model")
    steps: list[tuple[str, float]] = []
    prepare(folder, lambda step, done: steps.append((step, done)))
    assert open_files(folder).model.stat().st_size > 20_000_000
    shares = [done for _, done in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [path.name for path in folder.parent.iterdir() if "making" in path.name] == []


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(ModelFilesInvalid, match="something else"):
        prepare(tmp_path, refuse)
    assert (tmp_path / "letters.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFilesInvalid, match="cannot be written"):
        prepare(tmp_path / "file" / "model", ignore)


def test_altered_weights_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / model_files.PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('never imported')")
    (package / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(ModelFilesInvalid) as caught:
        prepare(tmp_path / "out", ignore)
    assert caught.value.path == package / "model" / "model.safetensors"
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ModelFilesInvalid, match="not installed"):
        prepare(tmp_path / "out", ignore)


def test_a_killed_prepare_leaves_nothing_half_and_the_next_one_cleans_up(
    prepared_model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    process = subprocess.Popen(
        [sys.executable, "-m", "memory", "prepare", "--to", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: any(tmp_path.glob(".model.making-*")), process)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert not folder.exists()

    def interrupt(_step: str, _done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # it has cleaned up before its first report
        prepare(folder, interrupt)
    assert not any(tmp_path.glob(".model.making-*"))


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "it ended before it began to write"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_command_leaves_a_valid_folder_alone_without_loading_torch(
    prepared_model_folder: Path,
) -> None:
    code = (
        "import sys; from memory.__main__ import app; "
        f"app(['prepare', '--to', {str(prepared_model_folder)!r}], standalone_mode=False); "
        "print(sorted({'torch', 'transformers', 'onnxruntime'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "was ready" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_fails_with_one_line_and_code_1(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    done = run_memory("prepare", "--to", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path) in done.stderr


def test_the_help_says_what_prepare_does() -> None:
    assert "prepare" in run_memory("--help").stdout
    assert "SHA-256" in run_memory("prepare", "--help").stdout
