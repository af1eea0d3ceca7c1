from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import numpy as np
import pytest
from anyio.to_thread import run_sync

from memory import model_files, onnx_embedder
from memory.embedding import Embedder
from memory.errors import EmbeddingFailed, ModelFilesInvalid
from memory.messages import Vector
from memory.onnx_embedder import OnnxEmbedder
from tests.memory.sentences import SENTENCES

pytestmark = pytest.mark.model_files


@pytest.fixture(scope="module")
def embedder(prepared_model_folder: Path) -> OnnxEmbedder:
    return OnnxEmbedder.open(prepared_model_folder, threads=2)


async def test_vectors_are_float32_of_unit_length(embedder: OnnxEmbedder) -> None:
    contract: Embedder = embedder
    vectors = await contract.embed(SENTENCES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(SENTENCES), contract.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_a_question_is_nearest_to_its_answer(embedder: OnnxEmbedder) -> None:
    question, answer, other = await embedder.embed(
        ["What is the name of my dog?", "We called our puppy Bruno.", "The train was late again."]
    )
    assert question @ answer > question @ other + 0.2


async def test_no_texts_give_no_rows(embedder: OnnxEmbedder) -> None:
    assert (await embedder.embed([])).shape == (0, 384)


async def test_rows_come_in_the_order_of_the_texts(embedder: OnnxEmbedder) -> None:
    together = await embedder.embed(SENTENCES)
    for row, text in enumerate(SENTENCES):
        np.testing.assert_array_equal(together[row], (await embedder.embed([text]))[0])


async def test_calls_at_the_same_time_do_not_mix(embedder: OnnxEmbedder) -> None:
    expected = await embedder.embed(SENTENCES)
    found: dict[int, Vector] = {}

    async def embed(start: int) -> None:
        for row in range(start, len(SENTENCES), 4):
            found[row] = (await embedder.embed([SENTENCES[row]]))[0]

    async with anyio.create_task_group() as group:
        for start in range(4):
            group.start_soon(embed, start)
    for row, vector in found.items():
        np.testing.assert_array_equal(vector, expected[row])
    assert len(found) == len(SENTENCES)


async def test_text_beyond_256_tokens_is_not_seen(embedder: OnnxEmbedder) -> None:
    cut, longer = await embedder.embed(["word " * 254, "word " * 254 + "something else"])
    shorter = (await embedder.embed(["word " * 253 + "else"]))[0]
    np.testing.assert_array_equal(cut, longer)
    assert not np.array_equal(cut, shorter)


async def test_empty_text_has_a_vector(embedder: OnnxEmbedder) -> None:
    assert np.isfinite(await embedder.embed([""])).all()


async def test_half_a_surrogate_pair_fails_the_whole_call(embedder: OnnxEmbedder) -> None:
    with pytest.raises(EmbeddingFailed):
        await embedder.embed(["\ud800"])
    with pytest.raises(EmbeddingFailed):
        await embedder.embed(["fine", "\ud800", "fine too"])


async def test_a_failure_of_onnxruntime_is_an_embedding_failure(
    prepared_model_folder: Path,
) -> None:
    failing = OnnxEmbedder.open(prepared_model_folder, threads=1)
    assert failing._model is not None
    failing._model._tokenizer.no_truncation()  # 600 tokens are more than the model has places for
    with pytest.raises(EmbeddingFailed, match="onnxruntime"):
        await failing.embed(["word " * 600])


class GatedModel:
    """Stands where the model stands; each text waits until the gate opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.has_begun = threading.Event()
        self.begun: list[str] = []

    def vector(self, text: str) -> Vector:
        self.begun.append(text)
        self.has_begun.set()
        assert self.gate.wait(timeout=30)
        return np.full(384, 1 / np.sqrt(384), dtype=np.float32)


@pytest.fixture
def gated(prepared_model_folder: Path) -> Iterator[tuple[OnnxEmbedder, GatedModel]]:
    embedder, model = OnnxEmbedder.open(prepared_model_folder, threads=1), GatedModel()
    embedder._model = model  # type: ignore[assignment]  # only vector() is called
    yield embedder, model
    model.gate.set()


async def test_the_event_loop_runs_on_while_a_text_is_embedded(
    gated: tuple[OnnxEmbedder, GatedModel],
) -> None:
    embedder, model = gated
    async with anyio.create_task_group() as group:
        group.start_soon(embedder.embed, ["slow"])
        assert await run_sync(model.has_begun.wait, 30)
        model.gate.set()  # reached only because the loop is free


async def test_a_message_does_not_wait_for_the_rest_of_an_import(
    gated: tuple[OnnxEmbedder, GatedModel],
) -> None:
    embedder, model = gated
    async with anyio.create_task_group() as group:
        group.start_soon(embedder.embed, [f"import {number}" for number in range(20)])
        assert await run_sync(model.has_begun.wait, 30)
        group.start_soon(embedder.embed, ["message"])
        await anyio.wait_all_tasks_blocked()
        model.gate.set()
    assert model.begun.index("message") <= 2


async def test_a_text_that_hangs_can_be_given_up_and_keeps_its_thread(
    gated: tuple[OnnxEmbedder, GatedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, model = gated
    with anyio.move_on_after(0.05) as scope:
        await embedder.embed(["hangs"])
    assert scope.cancelled_caught
    monkeypatch.setattr(onnx_embedder, "HUNG_S", 0.05)
    with pytest.raises(EmbeddingFailed, match="hang"):
        await embedder.embed(["next"])
    assert model.begun == ["hangs"]
    monkeypatch.setattr(onnx_embedder, "HUNG_S", 30)
    model.gate.set()
    assert (await embedder.embed(["next"])).shape == (1, 384)


async def test_a_closed_embedder_fails(prepared_model_folder: Path) -> None:
    embedder = OnnxEmbedder.open(prepared_model_folder, threads=1)
    await embedder.aclose()
    await embedder.aclose()
    with pytest.raises(EmbeddingFailed, match="closed"):
        await embedder.embed(["hello"])


def test_a_damaged_model_is_not_loaded(prepared_model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared_model_folder, tmp_path / "model")
    os.truncate(folder / model_files.MODEL_FILE, 1_000_000)
    with pytest.raises(ModelFilesInvalid) as caught:
        OnnxEmbedder.open(folder, threads=1)
    assert caught.value.path == folder / model_files.MODEL_FILE


def test_what_onnxruntime_cannot_load_is_named(
    prepared_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(prepared_model_folder, tmp_path / "model")
    (folder / model_files.MODEL_FILE).write_bytes(b"no model")
    monkeypatch.setattr(model_files, "_check", lambda *_: None)
    with pytest.raises(ModelFilesInvalid, match="onnxruntime cannot load it"):
        OnnxEmbedder.open(folder, threads=1)


def test_it_loads_no_torch(prepared_model_folder: Path) -> None:
    code = f"""
import sys, anyio
from pathlib import Path
from memory.onnx_embedder import OnnxEmbedder
embedder = OnnxEmbedder.open(Path({str(prepared_model_folder)!r}), threads=1)
assert anyio.run(embedder.embed, ["hello"]).shape == (1, 384)
print(sorted({{"torch", "transformers", "sentence_transformers"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


async def test_marked_texts_have_the_same_vectors_and_the_marks_of_their_words(
    embedder: OnnxEmbedder,
) -> None:
    texts = ["The trombone is in the attic.", "Is the trombone there?", "and the"]
    there, asked, nothing = await embedder.embed_marked(texts)
    vectors = await embedder.embed(texts)
    for row, embedded in enumerate((there, asked, nothing)):
        np.testing.assert_allclose(embedded.vector, vectors[row], atol=1e-4)
        assert embedded.marks.bits.shape == (len(embedded.marks.ids), 6)
    shared = set(there.marks.ids.tolist()) & set(asked.marks.ids.tolist())
    assert shared == set(asked.marks.ids.tolist()) != set()
    assert len(there.marks.ids) == len(asked.marks.ids) + 1
    assert len(nothing.marks.ids) == 0
