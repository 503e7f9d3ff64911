"""Forecasts the disk space of a run: what stays in its folder, and what grows with the number of steps."""

from __future__ import annotations

from rft.config import RunConfig
from rft.wording import plural

BYTES_PER_TOKEN = 6
"""Characters of a completion in rollouts.jsonl per token: 4 to 5 for English, more for escaped letters of others."""
BYTES_PER_ROLLOUT = 1_000
"""The other values of a rollout's line: prompt, policy and scores."""
BYTES_PER_STEP = 3_000
"""Lines of a step in metrics.jsonl and events.jsonl."""
BYTES_PER_TRAINED_WEIGHT = 12
"""A weight and Adam's two moments in float32."""
BYTES_PER_QUANTIZED_WEIGHT = 4
"""The folder of a quantized base model has its weights in float32."""
BYTES_PER_RECORDED_TOKEN = 4
"""A token id in `tokens/`. A token of a completion also has a log-probability of the same size."""


def disk_row(
    run: RunConfig,
    *,
    num_trained: int,
    num_validation: int,
    num_held_out: int,
    prompt_tokens: int,
    num_quantized: int = 0,
) -> str:
    """Return the disk space of a run in words.

    Args:
        run: The configuration.
        num_trained: Number of trained weights.
        num_validation: Number of validation tasks of one measurement.
        num_held_out: Number of tasks measured before and after the run.
        prompt_tokens: Longest prompt.
        num_quantized: Number of weights of the base model if the run is going to quantize it.
    """
    loop, how = run.loop, run.evaluation
    measured = 2 * num_held_out + (loop.steps // how.every_steps * num_validation if how.every_steps else 0)
    per_step = loop.prompts_per_step * loop.completions_per_prompt if run.learner.takes == "groups" else 0
    completions = loop.steps * per_step + measured * how.completions_per_task
    rollouts = completions * (run.sampler.max_completion_tokens * BYTES_PER_TOKEN + BYTES_PER_ROLLOUT)
    # A new checkpoint is complete before the oldest one goes. Sampling ahead keeps the policies of its versions.
    checkpoint = num_trained * (BYTES_PER_TRAINED_WEIGHT + 4 * loop.staleness)
    # The batches since the oldest kept checkpoint, just before a new one replaces it.
    batches = min(loop.steps, loop.keep_checkpoints * loop.checkpoint_every_steps)
    recorded = (prompt_tokens + 2 * run.sampler.max_completion_tokens) * BYTES_PER_RECORDED_TOKEN
    tokens = batches * per_step * recorded
    metrics = loop.steps * BYTES_PER_STEP
    base = num_quantized * BYTES_PER_QUANTIZED_WEIGHT
    total = rollouts + (loop.keep_checkpoints + 1) * checkpoint + tokens + metrics + base
    checkpoints = f"{plural(loop.keep_checkpoints + 1, 'checkpoint')} of {in_bytes(checkpoint)}"
    lines = f"{in_bytes(rollouts)} of rollouts before compression, {in_bytes(metrics)} of metrics"
    shards = f"{in_bytes(tokens)} of tokens of {plural(batches, 'step')}"
    quantized = f"{in_bytes(base)} of the quantized base model, " if base else ""
    return f"at most about {in_bytes(total)}: {quantized}{checkpoints}, {shards}, {lines}"


def in_bytes(number: float) -> str:
    """Return a size in words, such as `1.2 GB`."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} bytes"
