"""The memory of engines, part by part."""

from __future__ import annotations

import pytest

from rft.config.samplers.transformers import TransformersSamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.memory import Device, ModelShape, SamplerFacts
from rft.memory.engine import Generation, Serving, transformers_bytes, vllm_bytes
from rft.memory.sampler import sampler_memory

SERVING = Serving(dtype="float32", lora_rank=32, num_adapters=2, max_sequences=9, batched_tokens=512)
# In each of 24 layers: queries and outputs 896 x 896, keys and values 896 x 128, three matrices 896 x 4864.
LINEAR = 24 * 896 * (2 * 896 + 2 * 128 + 3 * 4864)
TABLE = 151_936 * 896
"""Embedding, which is the output matrix as well."""


def test_vllm_packs_the_weights_on_a_cpu(small: ModelShape) -> None:
    parts = vllm_bytes(small, SERVING, on_gpu=False)
    assert small.num_linear_weights == LINEAR
    assert parts == {
        "weights": 4 * small.num_weights,
        "adapter": 4 * 2 * 32 * 549_888,
        "packed weights": 4 * (2 * TABLE + LINEAR // 4),
        "activations": 512 * 4 * (3 * 4864 + 4 * 896 + 2 * 896),
        "logits": 3 * 4 * 9 * 151_936,
        "libraries": 120_000_000,
    }


def test_a_merge_reads_the_base_model_again(small: ModelShape) -> None:
    merged = Serving(dtype="float32", lora_rank=None, merges=True, max_sequences=9, batched_tokens=512)
    parts = vllm_bytes(small, merged, on_gpu=False)
    assert "adapter" not in parts
    assert parts["merging"] == 5 * LINEAR
    assert "merging" not in vllm_bytes(small, merged, on_gpu=True)


@pytest.mark.parametrize(
    ("rows", "prompt_tokens", "completion_tokens", "activations"),
    [
        # The logits of a canary, and of 64 completions.
        (1, 10, 500, 4 * 151_936 * 3 * 36),
        (64, 10, 500, 4 * 151_936 * 7 * 64),
        # The prompts, less the cache that the completions fill later: 24 layers of keys and values, 128 wide.
        (64, 500, 10, int(1.65 * 64 * 500 * 4 * (3 * 4864 + 6 * 896)) - 64 * 10 * 2 * 24 * 128 * 4),
    ],
)
def test_transformers_keeps_the_cache_of_a_batch(
    small: ModelShape, rows: int, prompt_tokens: int, completion_tokens: int, activations: int
) -> None:
    batch = Generation(rows=rows, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
    parts = transformers_bytes(small, SERVING, batch, on_gpu=False)
    assert parts["key-value cache"] == rows * 510 * 2 * 24 * 128 * 4
    assert parts["activations"] == activations
    # Two adapters in the model, the bytes that arrive, and the tensors of their file.
    assert parts["adapter"] == 4 * 4 * 32 * 549_888


@pytest.mark.parametrize(("environment", "expected"), [(None, 12_345), ("2", 2 * 2**30)])
def test_the_environment_overrides_the_cache_on_a_cpu(
    small: ModelShape, monkeypatch: pytest.MonkeyPatch, environment: str | None, expected: int
) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    if environment is not None:
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", environment)
    config = VllmSamplerConfig(engine={"kv_cache_memory_bytes": 12_345})
    memory = sampler_memory(small, facts(config), Device(ram_bytes=None))
    assert memory is not None
    assert memory.parts["key-value cache"] == expected


def test_transformers_has_no_more_rows_than_requests(small: ModelShape) -> None:
    memory = sampler_memory(small, facts(TransformersSamplerConfig(completions_per_batch=64)), Device(ram_bytes=None))
    assert memory is not None
    assert memory.num_sequences is None
    assert memory.parts["key-value cache"] == 8 * (100 + 50) * 2 * 24 * 128 * 4


def facts(config: VllmSamplerConfig | TransformersSamplerConfig) -> SamplerFacts:
    return SamplerFacts(
        config=config,
        dtype="float32",
        lora_rank=16,
        num_adapters=2,
        max_requests=8,
        prompt_tokens=100,
        max_completion_tokens=50,
        gpus=0.0,
    )
