from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memory.embedding import Embedder
from memory.errors import EmbeddingFailed, ModelFilesInvalid
from memory.model_files import packaged_folder
from memory.onnx_embedder import OnnxEmbedder
from memory.torch_embedder import TorchEmbedder
from tests.memory.sentences import SENTENCES

pytestmark = pytest.mark.model_files


@pytest.fixture(scope="module")
def embedder() -> TorchEmbedder:
    return TorchEmbedder.open("all-MiniLM-L6-v2", threads=1)


async def test_both_back_ends_place_texts_alike(
    embedder: TorchEmbedder, prepared_model_folder: Path
) -> None:
    served = OnnxEmbedder.open(prepared_model_folder, threads=1)
    cosines = (await embedder.embed(SENTENCES) * await served.embed(SENTENCES)).sum(axis=1)
    far = {text[:40]: float(c) for text, c in zip(SENTENCES, cosines, strict=True) if c < 0.98}
    assert far == {}


async def test_the_back_ends_fingerprints_differ(
    embedder: TorchEmbedder, prepared_model_folder: Path
) -> None:
    served = OnnxEmbedder.open(prepared_model_folder, threads=1)
    assert embedder.name == served.name
    assert embedder.dimension == served.dimension
    assert embedder.fingerprint != served.fingerprint


async def test_rows_are_of_unit_length_and_in_order(embedder: TorchEmbedder) -> None:
    contract: Embedder = embedder
    vectors = await contract.embed(SENTENCES)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for row, text in enumerate(SENTENCES):
        alone = (await contract.embed([text]))[0]
        np.testing.assert_allclose(vectors[row], alone, atol=1e-4)


async def test_no_texts_give_no_rows(embedder: TorchEmbedder) -> None:
    assert (await embedder.embed([])).shape == (0, 384)


async def test_half_a_surrogate_pair_fails(embedder: TorchEmbedder) -> None:
    with pytest.raises(EmbeddingFailed):
        await embedder.embed(["\ud800"])


async def test_the_fingerprint_of_a_folder_follows_its_contents_not_its_place(
    embedder: TorchEmbedder, tmp_path: Path
) -> None:
    folder = shutil.copytree(packaged_folder(), tmp_path / "all-MiniLM-L6-v2")
    moved = TorchEmbedder.open(str(folder), threads=1)
    assert moved.fingerprint == embedder.fingerprint
    pooling = folder / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text())
    settings |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    pooling.write_text(json.dumps(settings))
    assert TorchEmbedder.open(str(folder), threads=1).fingerprint != embedder.fingerprint


async def test_a_closed_embedder_fails() -> None:
    embedder = TorchEmbedder.open("all-MiniLM-L6-v2", threads=1)
    await embedder.aclose()
    with pytest.raises(EmbeddingFailed, match="closed"):
        await embedder.embed(["hello"])


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesInvalid) as caught:
        TorchEmbedder.open(str(tmp_path), threads=1)
    assert caught.value.path == tmp_path


def test_importing_the_module_loads_no_torch() -> None:
    code = "import sys, memory.torch_embedder; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"


async def test_marked_texts_have_the_same_vectors_and_the_marks_of_their_words(
    embedder: TorchEmbedder,
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
