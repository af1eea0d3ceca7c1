from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from memory import model_export
from memory.errors import ModelFilesInvalid
from memory.model_export import LEAST_COSINE, export_int8

pytestmark = [
    pytest.mark.model_files,
    pytest.mark.filterwarnings("ignore"),  # of the vendors, while they export
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the right kind, with weights at random."""
    folder = tmp_path_factory.mktemp("original")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=1_200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    transformers.BertModel(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture
def bert(original: Path) -> transformers.BertModel:
    return model_export._load(original)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_export, "SAMPLES", 20)


def ignore(_step: str, _done: float) -> None:
    pass


def test_the_export_says_nearly_what_the_original_says(original: Path, tmp_path: Path) -> None:
    steps: list[float] = []
    export_int8(original, tmp_path / "int8.onnx", lambda _step, done: steps.append(done))
    assert steps == sorted(steps)
    session = onnxruntime.InferenceSession(
        tmp_path / "int8.onnx", providers=["CPUExecutionProvider"]
    )
    assert [each.name for each in session.get_inputs()] == ["input_ids"]
    bert = model_export._load(original)
    for words in ([7], [5, 900, 33], list(range(100, 160))):
        ids = torch.tensor([[101, *words, 102]])
        with torch.no_grad():
            exact = bert(input_ids=ids).last_hidden_state[0].mean(0).numpy()
        found = session.run(["last_hidden_state"], {"input_ids": ids.numpy()})[0]
        assert found.shape == (1, len(words) + 2, 32)
        vector = found[0].mean(0)
        cosine = vector @ exact / np.linalg.norm(vector) / np.linalg.norm(exact)
        assert cosine > LEAST_COSINE


def test_smoothing_changes_weights_and_not_what_is_said(bert: transformers.BertModel) -> None:
    with torch.no_grad():
        samples = model_export._samples(1_200)
        before, spread = model_export._watch(bert, samples)
        weights = bert.encoder.layer[0].output.dense.weight.clone()
        model_export._smooth(bert, spread)
        after, _ = model_export._watch(bert, samples)
    assert not torch.allclose(bert.encoder.layer[0].output.dense.linear.weight, weights)
    for one, other in zip(before, after, strict=True):
        assert np.allclose(one, other, atol=1e-4)


def test_the_samples_are_the_same_everywhere() -> None:
    one, other = model_export._samples(1_200), model_export._samples(1_200)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    for ids in one:
        assert (int(ids[0, 0]), int(ids[0, -1])) == (101, 102)
        assert ids.shape[1] <= 25


def test_a_model_that_lost_too_much_is_not_served(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_export, "LEAST_COSINE", 1.1)
    with pytest.raises(ModelFilesInvalid, match=r"loses too much in int8.*torch") as caught:
        export_int8(original, tmp_path / "int8.onnx", ignore)
    assert caught.value.path == original


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesInvalid, match="Unrecognized model") as caught:
        export_int8(tmp_path, tmp_path / "int8.onnx", ignore)
    assert caught.value.path == tmp_path
    assert "\n" not in caught.value.problem
