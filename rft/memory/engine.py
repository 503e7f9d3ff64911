"""The memory of one sampler's engine, part by part."""

from __future__ import annotations

from dataclasses import dataclass

from rft.memory.model_shape import ModelShape

GRAPHS_BYTES = 1_500_000_000
"""CUDA context, kernels, graphs and buffers of vLLM. An estimate: it differs between GPUs and models."""
LIBRARIES_ON_CPU_BYTES = 200_000_000
"""Memory that vLLM or Transformers take at their first use, after their import. An estimate."""
WHOLE_GPU_UTILIZATION = 0.92
"""vLLM's default of `gpu_memory_utilization`, for an engine that has a GPU alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What an engine serves.

    Example:
        Serving(dtype="bfloat16", lora_rank=16, num_adapters=2, max_sequences=321, batched_tokens=8192)
    """

    dtype: str
    """Of weights and key-value cache."""
    lora_rank: int | None
    """Rank that the adapters have room for; None without adapters."""
    num_adapters: int = 0
    """Adapters that the engine holds at once."""
    max_sequences: int
    """Sequences that the engine samples at once."""
    batched_tokens: int
    """Tokens that the engine computes in one step."""
    gpus_spanned: int = 1
    """GPUs among which the model is divided."""


def kv_bytes_per_token(shape: ModelShape, dtype: str) -> int:
    """Return the bytes of the keys and values of one token in all layers."""
    return 2 * shape.num_layers * shape.kv * bytes_of(dtype)


def bytes_of(dtype: str) -> int:
    """Return the bytes of a number: 4 in float32, 2 in bfloat16 and float16."""
    return 4 if dtype == "float32" else 2


def engine_bytes(shape: ModelShape, serving: Serving, *, on_gpu: bool) -> dict[str, int]:
    """Return the bytes of an engine on each of its GPUs, or in main memory, without the key-value cache, by part."""
    span, size = serving.gpus_spanned, bytes_of(serving.dtype)
    parts = {"weights": shape.num_weights * size // span}
    if serving.lora_rank is not None:
        parts["adapter"] = serving.num_adapters * serving.lora_rank * shape.adapter_width * size // span
    if not on_gpu:
        return parts | {"libraries": LIBRARIES_ON_CPU_BYTES}
    # One layer at a time: the feed-forward layer's two branches and their product, queries, keys, values and states.
    per_token = size * (3 * shape.intermediate // span + 4 * shape.hidden + 2 * shape.attention // span)
    return parts | {
        "activations": serving.batched_tokens * per_token,
        # In float32: the logits, their normalized values, and a copy for sampling.
        "logits": 3 * 4 * serving.max_sequences * shape.vocabulary,
        "libraries": GRAPHS_BYTES,
    }
