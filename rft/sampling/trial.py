"""A trial of one way of serving: an adapter made on the spot, loaded and sampled with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from rft.errors import SyncError
from rft.sampling.choice import Trial
from rft.sampling.engine import Engine, Request, SamplingOptions, arrived, sample_all
from rft.sampling.merging import BaseWeights
from rft.types import Adapter, Policy

COMPLETIONS = 32
"""Sampled in a trial."""
PROMPT_TOKENS = 16
COMPLETION_TOKENS = 32


def random_adapter(model: Path, *, rank: int, version: int) -> Adapter:
    """An adapter of all linear modules with random values, small enough to leave the model what it is."""
    base = BaseWeights(model)
    linear = set(base.linear_names())
    random = torch.Generator().manual_seed(version)
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted(base.names):
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and module.rpartition(".")[2] in linear and base.tensor(name).ndim == 2:
            rows, columns = base.tensor(name).shape
            for side, shape in (("A", (rank, columns)), ("B", (rows, rank))):
                values = torch.randn(shape, generator=random) * 1e-3
                tensors[f"base_model.model.{module}.lora_{side}.weight"] = values
    config: dict[str, Any] = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted(linear)}
    adapter = Adapter(
        policy=Policy(version=version, fingerprint=""), config=config, tensors=safetensors.torch.save(tensors)
    )
    return Adapter(policy=arrived(adapter), config=config, tensors=adapter.tensors)


def try_out(engine: Engine, model: Path, rank: int) -> Trial:
    """Load and sample with an engine that nobody else uses; the first round warms up, the second counts.

    Raises:
        SyncError: What was read back is not what was loaded.
    """
    prompt = tuple(range(1, PROMPT_TOKENS + 1))
    requests = [Request(task_id="trial", index=index, prompt_ids=prompt, seed=index) for index in range(COMPLETIONS)]
    options = SamplingOptions(temperature=1.0, max_completion_tokens=COMPLETION_TOKENS)
    load_s = sample_s = 0.0
    num_tokens = 0
    for version in (1, 2):
        adapter = random_adapter(model, rank=rank, version=version)
        began = time.perf_counter()
        loaded = engine.load(adapter)
        load_s = time.perf_counter() - began
        if loaded.problems:
            raise SyncError(f"a trial of serving failed: {'; '.join(loaded.problems)}")
        rollouts = sample_all(engine, requests, options)
        sample_s = time.perf_counter() - began - load_s
        num_tokens = sum(len(rollout.completion_ids) for rollout in rollouts)
    return Trial(load_s=load_s, tokens_per_s=num_tokens / sample_s)
