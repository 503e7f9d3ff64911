"""A base model with quantized linear layers, for `learner.base`: bitsandbytes keeps them, PEFT trains an adapter.

The samplers serve what the quantized layers compute with, as a plain model (`rft.models.quantized_folder`). For that,
rft rounds the scales of the quantization to bfloat16. A scale then equals the largest weight of its block, in float32
and in bfloat16, so that quantizing the plain model again finds the same scales and the same weights.

rft multiplies by the dequantized weights itself, because the layers of bitsandbytes 0.50 would not always do so:
- in 8 bits, they quantize their inputs as well, on a GPU and outside of training;
- in 4 bits, they compute in bfloat16 on CPUs with AVX512-BF16 outside of training, and misplace scales on CPUs with
  AVX-512 if the length of a row is an odd multiple of 32.

Assumptions about bitsandbytes 0.50 (tests/learning/test_quantized_base.py checks them):
- NF4 has the codes -1 and 1, and int8 has -127 and 127, so the largest weight of a block is exactly its scale;
- NF4 divides the weights of a layer into blocks of 64, whatever the length of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
from peft import PeftConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from rft.models.quantized_folder import Method

LARGEST_INT8 = 127.0


def load_quantized(folder: Path, method: Method, *, dtype: torch.dtype, device: str, config: Any = None) -> Any:
    """Load a model with quantized linear layers; the output layer, embeddings and norms keep their weights.

    Args:
        folder: Folder of the model.
        method: The quantization.
        dtype: Number format of all other weights, and of all computations.
        device: `cpu` or `cuda`.
        config: Configuration of the model; None reads it from the folder.
    """
    if method == "nf4":
        how = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=False,  # quantized scales would not be found again
        )
    else:
        how = BitsAndBytesConfig(load_in_8bit=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        quantization_config=how,
        device_map={"": device},
        local_files_only=True,
        trust_remote_code=False,
    )
    for _, layer in _quantized_layers(model):
        layer.forward = partial(_forward, layer, dtype)
    if device == "cpu":
        for weight in model.parameters():
            if weight.is_floating_point():
                weight.data = weight.data.clone()  # would keep the mapped files with all weights in memory
    return model


def rounded_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of each quantized layer, by the layer's name, with scales that were rounded to bfloat16.

    The weights are in float32, and transposed where the original layer is a `Conv1D`.

    Args:
        model: From `load_quantized`.
    """
    for name, layer in _quantized_layers(model):
        weight = layer.weight
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            weight.quant_state.absmax = weight.quant_state.absmax.bfloat16().float()
        else:
            weight.SCB = weight.SCB.bfloat16().float()
        values = dequantized(layer, torch.float32)
        yield name, values.T if layer.source_cls is Conv1D else values


def adapted(model: Any, config: PeftConfig | None) -> Any:
    """Return a quantized model with an adapter that TRL trains like that of any other model.

    TRL would round the adapter of a quantized model to bfloat16, in which small steps of the optimizer are lost.

    Args:
        model: From `load_quantized`, with or without an adapter.
        config: The adapter to add; None for a model that has one.
    """
    if config is not None:
        model = get_peft_model(model, config)
    base = model.get_base_model()
    base.is_loaded_in_4bit = base.is_loaded_in_8bit = False
    return model


def dequantized(layer: Any, dtype: torch.dtype) -> Tensor:
    """Return the `[out, in]` weights of a quantized layer."""
    weight = layer.weight
    if not isinstance(layer, bitsandbytes.nn.Linear4bit):
        return (weight.CB.float() * weight.SCB[:, None] / LARGEST_INT8).to(dtype)
    state = weight.quant_state
    row = (1, state.shape.numel())  # as one row, because of the misplaced scales
    values: Tensor = torch.ops.bitsandbytes.dequantize_4bit(
        weight.data, state.absmax, state.blocksize, state.quant_type, row, dtype
    )
    return values.view(state.shape)


def _quantized_layers(model: Any) -> Iterator[tuple[str, Any]]:
    for name, layer in model.named_modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit | bitsandbytes.nn.Linear8bitLt):
            yield name, layer


def _forward(layer: Any, dtype: torch.dtype, inputs: Tensor) -> Tensor:
    """Return the output of a quantized layer. Arguments like `_Linear`, with inputs in any number format."""
    outputs: Tensor = _Linear.apply(inputs.to(dtype), layer)
    return outputs.to(inputs.dtype)


class _Linear(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
    """A linear layer with frozen quantized weights. The backward pass dequantizes them again, which saves memory."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, layer: Any) -> Tensor:
        """Return `[..., out]` outputs of `[..., in]` inputs."""
        context.layer = layer
        return linear(inputs, dequantized(layer, inputs.dtype), layer.bias)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the inputs."""
        (gradient,) = gradients
        return gradient @ dequantized(context.layer, gradient.dtype), None
