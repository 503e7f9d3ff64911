"""Shapes of published models, from the numbers in their `config.json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rft.config import RunConfig
from rft.memory import ModelShape
from rft.memory.model_shape import shape_of

QWEN2_5_0_5B = {
    "model_type": "qwen2",
    "num_hidden_layers": 24,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}


@pytest.fixture
def small() -> ModelShape:
    """Qwen2.5 0.5B."""
    return shape_of(QWEN2_5_0_5B)


@pytest.fixture
def make_run() -> Callable[..., RunConfig]:
    """`make_run(learner={...}, sampler={...}, loop={...}, model={...})`: 64 prompts of 5 completions of 512 tokens."""

    def make(**changes: dict[str, Any]) -> RunConfig:
        values: dict[str, dict[str, Any]] = {
            "model": {"path": "owner/model"},
            "data": {"train": "train.jsonl"},
            "loop": {"prompts_per_step": 64, "completions_per_prompt": 5},
            "sampler": {"kind": "vllm", "max_completion_tokens": 512},
            "learner": {"kind": "grpo", "adapter": {"rank": 32}},
            "graders": {"correct": {"use": "exact"}},
            "teacher": {},
        }
        return RunConfig.model_validate(
            {"output_dir": "out"} | {name: value | changes.get(name, {}) for name, value in values.items()}
        )

    return make
