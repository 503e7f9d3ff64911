"""The memory of one sampler's engine, part by part.

benchmarks/memory_forecast.py measured the constants of CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

from rft.memory.forecast_records import KV_CACHE
from rft.memory.learner import HEAP_FACTOR, LIBRARIES_ON_GPU_BYTES
from rft.memory.model_shape import ModelShape

GRAPHS_BYTES = 1_500_000_000
"""CUDA context, kernels, graphs and buffers of vLLM. An estimate: it differs between GPUs and models."""
VLLM_ON_CPU_BYTES = 120_000_000
"""Memory that vLLM takes on a CPU after its import: modules, kernels compiled for each shape of a batch, and gaps."""
GAPS_OF_PACKING = 0.25
"""Memory that packing leaves unused on the heap, relative to the linear layers: vLLM packs and frees one by one."""
TRANSFORMERS_ON_CPU_BYTES = 35_000_000
"""Memory that Transformers takes after its import."""
ADAPTERS_IN_LOADING = 2
"""Copies of an adapter during its loading beside those in the engine: the bytes that arrive, and its file's tensors."""
SCORED_TOKENS = 36
"""Length of a canary."""
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
    merges: bool = False
    """Whether adapters are merged into the weights."""
    gpus_spanned: int = 1
    """GPUs among which the model is divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A batch that Transformers generates.

    Example:
        Generation(rows=64, prompt_tokens=72, completion_tokens=48)
    """

    rows: int
    """Completions."""
    prompt_tokens: int
    """Longest prompt."""
    completion_tokens: int
    """Longest completion."""


def kv_bytes_per_token(shape: ModelShape, dtype: str) -> int:
    """Return the bytes of the keys and values of one token in all layers."""
    return 2 * shape.num_layers * shape.kv * bytes_of(dtype)


def bytes_of(dtype: str) -> int:
    """Return the bytes of a number: 4 in float32, 2 in bfloat16 and float16."""
    return 4 if dtype == "float32" else 2


def vllm_bytes(shape: ModelShape, serving: Serving, *, on_gpu: bool) -> dict[str, int]:
    """Return the bytes of vLLM on each of its GPUs, or in main memory, without the key-value cache, by part."""
    span, size = serving.gpus_spanned, bytes_of(serving.dtype)
    parts = {"weights": shape.num_weights * size // span}
    if serving.lora_rank is not None:
        parts["adapter"] = serving.num_adapters * serving.lora_rank * shape.adapter_width * size // span
    if not on_gpu:
        linear = shape.num_linear_weights * size
        # The linear layers are packed in place of their matrices; the embedding and the output matrix beside them.
        parts["packed weights"] = int(2 * shape.vocabulary * shape.hidden * size + GAPS_OF_PACKING * linear)
        if serving.merges:
            # Each merge reads the files of the base model, and packs the layers again.
            parts["merging"] = int((1 + GAPS_OF_PACKING) * linear)
    return parts | {
        "activations": serving.batched_tokens * _bytes_per_token(shape, size, span),
        # In float32: the logits, their normalized values, and a copy for sampling.
        "logits": 3 * 4 * serving.max_sequences * shape.vocabulary,
        "libraries": GRAPHS_BYTES if on_gpu else VLLM_ON_CPU_BYTES,
    }


def transformers_bytes(shape: ModelShape, serving: Serving, batch: Generation, *, on_gpu: bool) -> dict[str, int]:
    """Return the bytes of Transformers' `generate`, by part, with the keys and values of the batch."""
    size, rows = bytes_of(serving.dtype), batch.rows
    parts = {"weights": shape.num_weights * size}
    if serving.lora_rank is not None:
        held = serving.num_adapters + ADAPTERS_IN_LOADING
        parts["adapter"] = held * serving.lora_rank * shape.adapter_width * size
    per_token = kv_bytes_per_token(shape, serving.dtype)
    prefill = rows * batch.prompt_tokens * _bytes_per_token(shape, size, 1)
    if not on_gpu:
        prefill = int(HEAP_FACTOR * prefill)
    # The logits of the drawn tokens: two copies, three results of the softmax, and its sum in float64; or those of a
    # canary and their softmax.
    logits = 4 * shape.vocabulary * max(7 * rows, 3 * SCORED_TOKENS)
    return parts | {
        KV_CACHE: rows * (batch.prompt_tokens + batch.completion_tokens) * per_token,
        # The prompts are computed before the completions have keys and values.
        "activations": max(logits, prefill - rows * batch.completion_tokens * per_token),
        "libraries": LIBRARIES_ON_GPU_BYTES if on_gpu else TRANSFORMERS_ON_CPU_BYTES,
    }


def _bytes_per_token(shape: ModelShape, size: int, span: int) -> int:
    # One layer at a time: the feed-forward layer's two branches and their product, queries, keys, values and states.
    return size * (3 * shape.intermediate // span + 4 * shape.hidden + 2 * shape.attention // span)
