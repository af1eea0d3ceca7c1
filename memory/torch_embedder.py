"""The embedder for any other model: sentence-transformers on torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import anyio
import numpy as np
from anyio.to_thread import run_sync

from memory.embedding import HUNG_S, Embedded
from memory.errors import EmbeddingFailed, ModelFilesInvalid, one_line
from memory.messages import Vectors
from memory.model_files import NAME, packaged_folder
from memory.token_marks import marks_of

TEXTS_PER_HOP = 16
"""A message waits for one such batch of somebody else's import at most."""

_HASHED_SUFFIXES = frozenset({".safetensors", ".bin", ".json"})
"""Weights, tokenizer, and the settings that say how token vectors become one."""


class TorchEmbedder:
    """An :class:`~memory.embedding.Embedder`; one call at a time, torch itself uses *threads*.

    The tokenizers of transformers must not be used by two threads at once.
    """

    def __init__(self, model: Any, *, name: str, fingerprint: str) -> None:
        self._model: Any | None = model
        self._name = name
        self._fingerprint = fingerprint
        self._dimension = int(model.get_embedding_dimension())
        self._limiter = anyio.CapacityLimiter(1)
        self._free = Lock()

    @classmethod
    def open(cls, model: str, *, threads: int) -> TorchEmbedder:
        """Load *model*: a folder, ``all-MiniLM-L6-v2`` (the installed package's), or the id of a
        sentence-transformers model, downloaded where it is not in the local cache. Blocks for
        seconds. The number of threads holds for all of the process's torch.

        Raises:
            ModelFilesInvalid: there is no such model, or it cannot be loaded.
        """
        folder = packaged_folder() if model == NAME else Path(model)
        try:
            import torch  # noqa: PLC0415  # with the next line 3 s and 400 MB: this back end only
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415  # see above

            torch.set_num_threads(threads)
            if folder.is_dir():
                loaded = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
                version = _folder_hash(folder)
            else:
                loaded = SentenceTransformer(model, device="cpu")
                version = _revision(loaded)
        except (ImportError, OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelFilesInvalid(
                folder, f"sentence-transformers cannot load this model: {one_line(error)}"
            ) from error
        name = folder.absolute().name if folder.is_dir() and model != NAME else model
        return cls(loaded, name=name, fingerprint=f"{name}:torch:{version}")

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, embedded in enumerate(await self.embed_marked(texts)):
            vectors[row] = embedded.vector
        return vectors

    async def embed_marked(self, texts: Sequence[str]) -> list[Embedded]:
        done: list[Embedded] = []
        for start in range(0, len(texts), TEXTS_PER_HOP):
            done += await run_sync(
                self._encode,
                list(texts[start : start + TEXTS_PER_HOP]),
                abandon_on_cancel=True,
                limiter=self._limiter,
            )
        return done

    async def aclose(self) -> None:
        """Let go of the model; a call that runs ends well, later ones fail."""
        self._model = None

    def _encode(self, texts: list[str]) -> list[Embedded]:
        """In a thread. The limiter does not count what was abandoned and still runs."""
        if not self._free.acquire(timeout=HUNG_S):
            raise EmbeddingFailed("sentence-transformers hangs")
        try:
            if self._model is None:
                raise EmbeddingFailed("the embedder is closed")
            outputs = self._model.encode(
                texts, batch_size=TEXTS_PER_HOP, output_value=None, show_progress_bar=False
            )
            return [_embedded(self._model.tokenizer, output) for output in outputs]
        except (RuntimeError, TypeError, ValueError) as error:
            raise EmbeddingFailed(
                f"sentence-transformers failed: {type(error).__name__}"
            ) from error
        finally:
            self._free.release()


def _embedded(tokenizer: Any, output: Any) -> Embedded:
    """One text's vector and marks from what the model leaves of it, padding left out."""
    vector = output["sentence_embedding"].cpu().numpy().astype(np.float32)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise EmbeddingFailed(f"the model's vector has the length {length}")
    used = output["attention_mask"].cpu().numpy().astype(bool)
    ids = output["input_ids"].cpu().numpy()[used].tolist()
    states = output["token_embeddings"].cpu().numpy()[used]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    return Embedded(vector / np.float32(length), marks_of(pieces, ids, states))


def _folder_hash(folder: Path) -> str:
    """64 bits of SHA-256 over the names and contents of all files that make vectors."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _HASHED_SUFFIXES and path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}\n{content}\n".encode())
    return digest.hexdigest()[:16]


def _revision(model: Any) -> str:
    """The downloaded model's commit; ``unknown`` where the library does not say."""
    commit = getattr(model[0].auto_model.config, "_commit_hash", None)
    return str(commit) if commit else "unknown"
