"""The embedder of ``[embedding]``, loaded at once or when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from chat_server.settings import Settings
from memory.embedding import Embedded, Embedder
from memory.messages import Vectors
from memory.model_files import open_files


def model_folder(settings: Settings) -> Path:
    """Where the prepared embedding model lies."""
    return settings.data_dir / "models" / settings.embedding.model.rpartition("/")[2]


def open_embedder(settings: Settings) -> Embedder:
    """The embedder; the heavy one is imported by its backend only."""
    if settings.embedding.backend == "torch":
        from memory.torch_embedder import TorchEmbedder  # noqa: PLC0415  # 500 MB, for it alone

        return TorchEmbedder.open(settings.embedding.model, threads=settings.embedding.threads)
    from memory.onnx_embedder import OnnxEmbedder  # noqa: PLC0415  # 50 MB, not for a supervisor

    return OnnxEmbedder.open(model_folder(settings), threads=settings.embedding.threads)


class LateEmbedder:
    """An :class:`~memory.embedding.Embedder` that loads its model when something is embedded.

    What the model is called is known before: from its files, or, with the backend ``torch``, from
    the model, which is loaded for that.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loading = anyio.Lock()
        self._embedder: Embedder | None = None
        if settings.embedding.backend == "torch":
            self._embedder = open_embedder(settings)
        facts = self._embedder or open_files(model_folder(settings))
        self.name = facts.name
        self.dimension = facts.dimension
        self.fingerprint = facts.fingerprint

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return await (await self._loaded()).embed(texts)

    async def embed_marked(self, texts: Sequence[str]) -> list[Embedded]:
        return await (await self._loaded()).embed_marked(texts)

    async def aclose(self) -> None:
        """Let go of the model, if it was loaded."""
        if self._embedder is not None:
            await self._embedder.aclose()

    async def _loaded(self) -> Embedder:
        async with self._loading:
            if self._embedder is None:
                self._embedder = await anyio.to_thread.run_sync(open_embedder, self._settings)
            return self._embedder
