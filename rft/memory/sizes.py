"""Chooses the sizes of a run that depend on the learner's memory: micro-batches and activation checkpointing.

A run chooses its sizes once. The manifest keeps them, so a resumed run uses the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rft.config import RunConfig, completions_per_micro_batch, sequences_per_step
from rft.config.learners.policy import PolicyLearnerConfig
from rft.memory.learner import MicroBatch, fixed_bytes, pass_bytes
from rft.memory.model_shape import ModelShape

USEFUL_TOKENS = 4096
"""Tokens of a micro-batch that keep a GPU busy. If they do not fit, activations are computed twice instead of saved."""
MAX_TOKENS = 16_384
"""Tokens of the largest micro-batch on a GPU; more would not be faster."""
USED_SHARE = 0.9
"""Share of the learner's memory that is planned; the allocator needs the rest for gaps between tensors."""
REFERENCE_BYTES = 4
"""A weight of the reference model of full fine-tuning, in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of a learner's step, and the memory that it may use for them.

    Example:
        Sizes(completions_per_micro_batch=8, gradient_checkpointing=False)
    """

    completions_per_micro_batch: int
    """Completions in one forward and backward pass if all were as long as the longest."""
    gradient_checkpointing: bool = False
    """Whether the backward pass computes activations again instead of keeping them."""
    samplers_sleep: bool = False
    """Whether the samplers free their GPU memory while the learner works."""


def choose_sizes(
    run: RunConfig, shape: ModelShape, *, prompt_tokens: int, on_gpu: bool, gpu_bytes: int | None
) -> Sizes:
    """Choose the micro-batch, and whether to checkpoint activations.

    Configured values are kept. On a CPU, and where the memory is unknown, only the configuration counts.

    Args:
        run: The configuration.
        shape: Of the base model.
        prompt_tokens: Longest prompt.
        on_gpu: Whether the learner has a GPU.
        gpu_bytes: Bytes of the learner's share of its GPU; None if unknown.
    """
    learner = run.learner
    trl = learner.trl if isinstance(learner, PolicyLearnerConfig) else {}
    checkpointing = trl.get("gradient_checkpointing")
    if not on_gpu:
        return Sizes(
            completions_per_micro_batch=completions_per_micro_batch(run), gradient_checkpointing=bool(checkpointing)
        )
    row_tokens = prompt_tokens + run.sampler.max_completion_tokens
    total = sequences_per_step(run)
    largest = max(1, min(total, MAX_TOKENS // row_tokens))
    rows = [size for size in range(largest, 0, -1) if total % size == 0]
    useful = next(size for size in rows if size * row_tokens <= USEFUL_TOKENS or size == 1)
    if configured := learner.completions_per_micro_batch:
        rows, useful = [configured], configured
    if gpu_bytes is None or not learner.trains_a_model:
        return Sizes(completions_per_micro_batch=rows[0], gradient_checkpointing=bool(checkpointing))
    budget = USED_SHARE * gpu_bytes

    def fits(size: int, is_checkpointing: bool) -> bool:
        sizes = Sizes(completions_per_micro_batch=size, gradient_checkpointing=is_checkpointing)
        parts = learner_bytes(run, shape, sizes, prompt_tokens=prompt_tokens, on_gpu=True)
        return sum(parts.values()) <= budget

    if checkpointing is None:
        checkpointing = not fits(useful, False)
    size = next((size for size in rows if fits(size, checkpointing)), rows[-1])
    return Sizes(completions_per_micro_batch=size, gradient_checkpointing=bool(checkpointing))


def learner_bytes(
    run: RunConfig, shape: ModelShape, sizes: Sizes, *, prompt_tokens: int, on_gpu: bool
) -> dict[str, int]:
    """Return the bytes of one rank of the learner, by part. Arguments like `choose_sizes`."""
    learner = run.learner
    if not learner.trains_a_model:
        return {}
    batch = MicroBatch(
        rows=sizes.completions_per_micro_batch,
        prompt_tokens=prompt_tokens,
        completion_tokens=run.sampler.max_completion_tokens,
        gradient_checkpointing=sizes.gradient_checkpointing,
        whole_logits=learner.has_teacher and run.teacher.top_logprobs > 0,
    )
    rank = learner.adapter.forecast_rank
    conditions: dict[str, Any] = {"lora_rank": rank, "dtype": run.model.weights_dtype(on_gpu=on_gpu), "on_gpu": on_gpu}
    parts = fixed_bytes(shape, base=learner.base, **conditions) | pass_bytes(shape, batch, **conditions)
    if rank is None:
        parts["optimizer"] = int(parts["optimizer"] * learner.adapter.trained_share(shape.num_layers))
    if rank is None and learner.compares_with_start:
        parts["reference"] = REFERENCE_BYTES * shape.num_weights
    if learner.kind == "ppo":
        # The value function is fitted on the hidden states of all completions of a step, in float32.
        completions = run.loop.prompts_per_step * run.loop.completions_per_prompt
        tokens = completions * run.sampler.max_completion_tokens // learner.num_workers
        parts["value function"] = 4 * tokens * shape.hidden
    return parts
