"""Making the served int8 model of the original weights, with torch.

Imported by :func:`memory.model_files.prepare` alone, when it is needed.

Rounding to int8 loses most where one channel of an activation is far larger than the others, for
all share one scale. *SmoothQuant* (Xiao and others, arXiv 2211.10438) divides such channels and
multiplies the weights that read them: the same function, with less to lose. Decision 0001 has the
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException
from onnxruntime.quantization import QuantType, quantize_dynamic

from memory.errors import ModelFilesInvalid, one_line

SMOOTHING = 0.7
"""How much of an activation's spread moves into the weights: 0 nothing, 1 all of it."""

SAMPLES = 200
"""Random token sequences that show the activations' spread; it is a trait of the weights, so that
words at random show it as well as a corpus would."""

LEAST_COSINE = 0.95
"""Below this the int8 model is not served. Every sample of a sound export is above 0.98."""


class _Shrunk(torch.nn.Module):  # type: ignore[misc]  # mypy does not follow torch
    """*linear* with its input divided and its weights multiplied by *scale*: the same function."""

    def __init__(self, linear: Any, scale: Any) -> None:
        super().__init__()
        linear.weight.mul_(scale)
        self.linear = linear
        self.shrink = torch.nn.Parameter(1 / scale)

    def forward(self, x: Any) -> Any:
        return self.linear(x * self.shrink)


class _TokenVectors(torch.nn.Module):  # type: ignore[misc]  # mypy does not follow torch
    """One text's token ids, (1, tokens), to its vectors, (1, tokens, dimension).

    Without attention mask: one text at a time needs no padding.
    """

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Any) -> Any:
        embedded = self.bert.embeddings(
            input_ids=input_ids, token_type_ids=torch.zeros_like(input_ids)
        )
        return self.bert.encoder(embedded, attention_mask=None).last_hidden_state


def export_int8(source: Path, target: Path, report: Callable[[str, float], None]) -> None:
    """Write the model of the folder *source* to *target*: ONNX, int8, input ``input_ids``
    (1, tokens), output ``last_hidden_state`` (1, tokens, dimension).

    Raises:
        ModelFilesInvalid: the libraries failed, or the result is too far from the original.
    """
    with torch.no_grad(), TemporaryDirectory() as scratch:
        try:
            report("loading the weights", 0.0)
            bert = _load(source)
            samples = _samples(bert.config.vocab_size)
            report("measuring activations", 0.1)
            exact, spread = _watch(bert, samples)
            _smooth(bert, spread)
            report("exporting to ONNX", 0.4)
            _export(bert, Path(scratch) / "float32.onnx")
            report("quantising to int8", 0.7)
            # Per channel: .76 becomes .97 at worst. Asymmetric weights: free, and half the loss.
            quantize_dynamic(
                Path(scratch) / "float32.onnx",
                target,
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"WeightSymmetric": False},
            )
            report("comparing with the original", 0.9)
            found = _least_cosine(target, samples, exact)
        except (RuntimeError, ValueError, Fail, InvalidArgument, RuntimeException) as error:
            raise ModelFilesInvalid(source, f"cannot be exported: {one_line(error)}") from error
    if found < LEAST_COSINE:
        raise ModelFilesInvalid(
            source,
            f"loses too much in int8 on this processor (cosine {found:.3f}); "
            'set embedding.backend = "torch"',
        )


def _load(source: Path) -> Any:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        bert = transformers.AutoModel.from_pretrained(
            source, attn_implementation="eager", local_files_only=True
        )
    except OSError as error:  # translated here: elsewhere it is the target that fails
        raise ModelFilesInvalid(source, f"cannot be loaded: {one_line(error)}") from error
    return bert.eval()


def _samples(vocabulary: int) -> list[Any]:
    """The same on every machine: [CLS], 1 to 23 words at random, [SEP]."""
    random = np.random.default_rng(0)
    return [
        torch.tensor([[101, *random.integers(1000, vocabulary, random.integers(1, 24)), 102]])
        for _ in range(SAMPLES)
    ]


def _watch(bert: Any, samples: list[Any]) -> tuple[list[Any], dict[Any, Any]]:
    """Each sample's exact vector, and for each linear layer the largest value in each channel of
    its input.
    """
    spread: dict[Any, Any] = {}

    def widen(linear: Any, inputs: Any) -> None:
        largest = inputs[0].abs().amax(dim=(0, 1))
        spread[linear] = torch.maximum(spread[linear], largest) if linear in spread else largest

    linears = [module for module in bert.encoder.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [linear.register_forward_pre_hook(widen) for linear in linears]
    model = _TokenVectors(bert)
    exact = [_unit(model(ids)[0].numpy()) for ids in samples]
    for hook in hooks:
        hook.remove()
    return exact, spread


def _smooth(bert: Any, spread: dict[Any, Any]) -> None:
    """Even out what goes into the linear layers. Layers with the same input share one scale, so
    that it is rounded once. The attention's output layer gains nothing by it.
    """
    for layer in bert.encoder.layer:
        attention = layer.attention.self
        for owner, names in (
            (attention, ("query", "key", "value")),
            (layer.intermediate, ("dense",)),
            (layer.output, ("dense",)),
        ):
            linears = [getattr(owner, name) for name in names]
            weight = torch.stack([linear.weight.abs().amax(dim=0) for linear in linears]).amax(0)
            scale = spread[linears[0]].clamp(min=1e-3) ** SMOOTHING
            scale = scale / weight.clamp(min=1e-5) ** (1 - SMOOTHING)
            scale = scale / scale.log().mean().exp()
            for name, linear in zip(names, linears, strict=True):
                setattr(owner, name, _Shrunk(linear, scale))


def _export(bert: Any, path: Path) -> None:
    axes = {1: "tokens"}
    torch.onnx.export(
        _TokenVectors(bert),
        (torch.ones(1, 8, dtype=torch.long),),
        path,
        input_names=["input_ids"],
        output_names=["last_hidden_state"],
        dynamic_axes={"input_ids": axes, "last_hidden_state": axes},
        opset_version=17,
        dynamo=False,  # the newer exporter needs a further package and gains nothing here
    )


def _least_cosine(path: Path, samples: list[Any], exact: list[Any]) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return min(
        float(_unit(session.run(None, {"input_ids": ids.numpy()})[0][0]) @ vector)
        for ids, vector in zip(samples, exact, strict=True)
    )


def _unit(token_vectors: Any) -> Any:
    vector = token_vectors.mean(axis=0)
    return vector / np.linalg.norm(vector)
