"""One engine in this process, for a few completions: starting Ray would take longer than sampling them."""

from __future__ import annotations

import os
from pathlib import Path

from rft.cluster import device_here, num_gpus_here
from rft.config.samplers import SAMPLERS
from rft.errors import ModelError
from rft.memory import Forecast, SamplerFacts, forecast_measurement, read_shape
from rft.models.adapter_folder import max_rank
from rft.models.base_model import context_tokens, fingerprint
from rft.sampling.build import build_engine
from rft.sampling.engine import Engine
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Adapter, Policy

UNUSED_RANK = 8
"""Largest rank of adapters where none is loaded."""


def open_local_engine(
    kind: str, model: Path, adapter: Adapter | None, *, seed: int, num_completions: int, loads_adapter: bool = True
) -> Engine:
    """Build an engine that serves the base model, or an adapter of it.

    Args:
        kind: A key of `rft.config.samplers.SAMPLERS`.
        model: Folder of the base model.
        adapter: The adapter; None serves the base model.
        seed: Seed of the engine.
        num_completions: Number of completions to sample at once.
        loads_adapter: Whether the engine serves the adapter already; otherwise it only has the room for it.

    Raises:
        ModelError: The engine cannot serve the adapter.
    """
    on_gpu = num_gpus_here() > 0
    engine = build_engine(
        EngineSpec(
            sampler=SAMPLERS[kind].for_one_prompt(num_completions),
            base=Policy(version=0, fingerprint=fingerprint(model)),
            max_lora_rank=_rank(adapter),
            dtype=_dtype(on_gpu),
            max_context_tokens=context_tokens(model),
            seed=seed,
            max_requests=num_completions,
            place=EnginePlace(model=model, num_threads=os.cpu_count() or 1, num_gpus=float(on_gpu)),
        )
    )
    if adapter is not None and loads_adapter and (problems := engine.load(adapter).problems):
        raise ModelError("adapter", problems)
    return engine


def forecast_local_engine(
    kind: str,
    model: Path,
    adapter: Adapter | None,
    *,
    num_completions: int,
    prompt_tokens: int,
    max_completion_tokens: int,
) -> Forecast:
    """Forecast the memory of this process. Arguments like `open_local_engine`.

    Args:
        kind: A key of `rft.config.samplers.SAMPLERS`.
        model: Folder of the base model.
        adapter: The adapter; None serves the base model.
        num_completions: Number of completions to sample at once.
        prompt_tokens: Length of the prompt.
        max_completion_tokens: Longest completion.
    """
    on_gpu = num_gpus_here() > 0
    facts = SamplerFacts(
        config=SAMPLERS[kind].for_one_prompt(num_completions),
        dtype=_dtype(on_gpu),
        lora_rank=_rank(adapter),
        num_adapters=2,
        max_requests=num_completions,
        prompt_tokens=prompt_tokens,
        max_completion_tokens=max_completion_tokens,
        gpus=float(on_gpu),
    )
    return forecast_measurement(read_shape(model), facts, device_here(int(on_gpu)))


def _rank(adapter: Adapter | None) -> int:
    return max_rank(adapter) if adapter else UNUSED_RANK


def _dtype(on_gpu: bool) -> str:
    return "bfloat16" if on_gpu else "float32"
