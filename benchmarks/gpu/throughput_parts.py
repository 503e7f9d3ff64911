"""Parts about the speed of vLLM's engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu.adapters import random_adapter
from gpu.bench import Bench
from gpu.report import Notes
from rft.sampling.engine import Request, SamplingOptions, sample_all

PER_PROMPT = 5
"""Completions of each prompt."""


def throughput(bench: Bench, notes: Notes, *, serve: str, limits: Mapping[str, int]) -> None:
    """Sample a batch under an adapter twice, and time the second one."""
    size = bench.size
    with bench.timed() as seconds:
        engine = bench.engine("0.5B", serve=serve, enforce_eager=bench.dry, **limits)
    notes.note(start_s=seconds[0], **limits)
    loaded = engine.load(random_adapter(bench, version=1, seed=1))
    notes.check("the adapter is loaded", not loaded.problems)
    prompts = bench.random_ids(size.num_completions, size.max_context_tokens // 4)
    requests = [
        Request(task_id="t", index=i, prompt_ids=prompts[i // PER_PROMPT], seed=i) for i in range(size.num_completions)
    ]
    options: Any = SamplingOptions(temperature=1.0, max_completion_tokens=size.completion_tokens)
    sample_all(engine, requests[: 2 * PER_PROMPT], options)
    with bench.timed() as seconds:
        rollouts = sample_all(engine, requests, options)
    tokens = sum(len(rollout.completion_ids) for rollout in rollouts)
    notes.note(tokens=tokens, seconds=seconds[0], tokens_per_s=tokens / seconds[0])
    notes.check("every completion has its length", tokens == size.num_completions * size.completion_tokens)
