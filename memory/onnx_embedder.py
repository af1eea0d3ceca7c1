"""The default embedder: all-MiniLM-L6-v2 in int8 on onnxruntime, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import BoundedSemaphore
from typing import TypeVar

import anyio
import numpy as np
import numpy.typing as npt
import onnxruntime
from anyio.to_thread import run_sync
from onnxruntime.capi import onnxruntime_pybind11_state as vendor
from tokenizers import Encoding, Tokenizer

from memory.embedding import HUNG_S, Embedded
from memory.errors import EmbeddingFailed, ModelFilesInvalid
from memory.messages import Vector, Vectors
from memory.model_files import ModelFiles, open_files
from memory.token_marks import TokenMarks, marks_of

_LOAD_ERRORS = (
    vendor.Fail,
    vendor.InvalidArgument,
    vendor.InvalidGraph,
    vendor.InvalidProtobuf,
    vendor.NotImplemented,
)
_RUN_ERRORS = (vendor.Fail, vendor.InvalidArgument, vendor.RuntimeException)

T = TypeVar("T")


class _Model:
    """Tokenizer and session; calls from several threads at once are allowed."""

    def __init__(self, files: ModelFiles) -> None:
        self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.no_padding()  # the file asks for 128 tokens always: seven times the work
        self._tokenizer.enable_truncation(files.max_tokens)
        options = onnxruntime.SessionOptions()
        # The calling thread does all the work, so that `threads` calls share the processors;
        # onnxruntime's own threads would spin between two runs and burn five times the time.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; they come as exceptions too
        self._session = onnxruntime.InferenceSession(
            files.model, options, providers=["CPUExecutionProvider"]
        )

    def vector(self, text: str) -> Vector:
        """The mean of the tokens' vectors, at unit length."""
        return _mean(self._run(text)[1])

    def embedded(self, text: str) -> Embedded:
        """The same with the marks of the tokens."""
        encoding, vectors = self._run(text)
        return Embedded(_mean(vectors), _marks(encoding, vectors))

    def _run(self, text: str) -> tuple[Encoding, npt.NDArray[np.float32]]:
        """The tokens and, float32, (tokens, dimension), their vectors as the model leaves them,
        [CLS] and [SEP] included.
        """
        try:
            encoding = self._tokenizer.encode(text)
            ids = np.array([encoding.ids], dtype=np.int64)
            outputs = self._session.run(None, {"input_ids": ids})
        except TypeError as error:
            raise EmbeddingFailed("the text is not valid Unicode") from error
        except _RUN_ERRORS as error:
            raise EmbeddingFailed(f"onnxruntime failed: {type(error).__name__}") from error
        return encoding, outputs[0][0]


def _mean(vectors: npt.NDArray[np.float32]) -> Vector:
    mean: Vector = vectors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if not np.isfinite(length) or length == 0:
        raise EmbeddingFailed(f"the model's vector has the length {length}")
    return mean / np.float32(length)


def _marks(encoding: Encoding, vectors: npt.NDArray[np.float32]) -> TokenMarks:
    # [CLS], [SEP] and [UNK] end in punctuation: marks_of leaves them out with all the rest.
    return marks_of(encoding.tokens, encoding.ids, vectors)


class OnnxEmbedder:
    """An :class:`~memory.embedding.Embedder` that runs at most *threads* texts at a time.

    Each text is a hop of its own into a worker thread: a message waits for the texts that are
    being embedded, never for the rest of somebody else's import.
    """

    def __init__(self, files: ModelFiles, *, threads: int) -> None:
        self._files = files
        self._threads = threads
        self._limiter = anyio.CapacityLimiter(threads)
        self._free = BoundedSemaphore(threads)
        try:
            self._model: _Model | None = _Model(files)
        except _LOAD_ERRORS as error:
            raise ModelFilesInvalid(
                files.model, f"onnxruntime cannot load it: {type(error).__name__}"
            ) from error

    @classmethod
    def open(cls, folder: Path, *, threads: int) -> OnnxEmbedder:
        """Load the prepared *folder*; blocks for about 0.2 s.

        Raises:
            ModelFilesInvalid: with the file that is wrong, and what to do.
        """
        return cls(open_files(folder), threads=threads)

    @property
    def name(self) -> str:
        return self._files.name

    @property
    def dimension(self) -> int:
        return self._files.dimension

    @property
    def fingerprint(self) -> str:
        return self._files.fingerprint

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, vector in (
            await self._each(texts, lambda model, text: model.vector(text))
        ).items():
            vectors[row] = vector
        return vectors

    async def embed_marked(self, texts: Sequence[str]) -> list[Embedded]:
        done = await self._each(texts, lambda model, text: model.embedded(text))
        return [done[row] for row in range(len(texts))]

    async def aclose(self) -> None:
        """Let go of the model; calls that run end well, later ones fail."""
        self._model = None

    async def _each(self, texts: Sequence[str], ask: Callable[[_Model, str], T]) -> dict[int, T]:
        """What *ask* says of each text, by its place among *texts*."""
        done: dict[int, T] = {}
        work = iter(enumerate(texts))
        if len(texts) <= 1 or self._threads == 1:
            await self._ask_into(done, work, ask)
            return done
        failures: list[EmbeddingFailed] = []
        async with anyio.create_task_group() as lanes:

            async def lane() -> None:
                try:
                    await self._ask_into(done, work, ask)
                except EmbeddingFailed as error:
                    failures.append(error)
                    lanes.cancel_scope.cancel()

            for _ in range(min(self._threads, len(texts))):
                lanes.start_soon(lane)
        if failures:
            raise failures[0]
        return done

    async def _ask_into(
        self,
        done: dict[int, T],
        work: Iterator[tuple[int, str]],
        ask: Callable[[_Model, str], T],
    ) -> None:
        """Take texts from *work*, which lanes share, until none is left."""
        for row, text in work:
            done[row] = await run_sync(
                self._ask, ask, text, abandon_on_cancel=True, limiter=self._limiter
            )

    def _ask(self, ask: Callable[[_Model, str], T], text: str) -> T:
        """In a thread. The limiter does not count what was abandoned and still runs."""
        if not self._free.acquire(timeout=HUNG_S):
            raise EmbeddingFailed("all threads hang")
        try:
            if self._model is None:
                raise EmbeddingFailed("the embedder is closed")
            return ask(self._model, text)
        finally:
            self._free.release()
