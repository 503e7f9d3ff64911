"""Checks `learner` and batch sizes before anything heavy starts."""

from __future__ import annotations

from rft.config.schema import RunConfig

MAX_ROWS_ON_CPU = 8
"""Completions of a micro-batch on a CPU: more do not make better use of its cores, and no longer fit its caches."""
MAX_TOKENS_ON_GPU = 16_384
"""Completion tokens of a micro-batch on a GPU."""


def completions_per_micro_batch(run: RunConfig, *, on_gpu: bool = False) -> int:
    """Completions in one forward and backward pass: as configured, or the largest divisor of a step's that is allowed.

    Args:
        run: The configuration.
        on_gpu: Whether the learner has a GPU: the limit is 8 completions without, 16,384 tokens with one.
    """
    total = _completions_per_step(run)
    configured = run.learner.completions_per_micro_batch
    most = max(1, MAX_TOKENS_ON_GPU // run.sampler.max_completion_tokens) if on_gpu else MAX_ROWS_ON_CPU
    return configured or max(size for size in range(1, min(most, total) + 1) if total % size == 0)


def learner_problems(run: RunConfig) -> list[str]:
    """Everything wrong with the learner and the sizes of its batches, one sentence each."""
    learner = run.learner
    found = _size_problems(run)
    if found:
        found[-1] += f". {_table(run)}"
    if learner.num_workers > 1:
        total = _completions_per_step(run)
        found += learner.rank_problems(
            completions_per_step=total, micro_batches_per_step=total // completions_per_micro_batch(run)
        )
    return found + learner.problems()


def _completions_per_step(run: RunConfig) -> int:
    return run.loop.prompts_per_step * run.loop.completions_per_prompt


def _size_problems(run: RunConfig) -> list[str]:
    loop, total, micro = run.loop, _completions_per_step(run), run.learner.completions_per_micro_batch
    found = run.learner.batch_problems(
        prompts_per_step=loop.prompts_per_step, completions_per_prompt=loop.completions_per_prompt
    )
    if micro is not None and total % micro:
        divisors = ", ".join(str(size) for size in range(1, total + 1) if total % size == 0)
        found.append(
            f"learner.completions_per_micro_batch={micro}: must divide the {total} completions of a step "
            f"(loop.prompts_per_step={loop.prompts_per_step} x loop.completions_per_prompt="
            f"{loop.completions_per_prompt}): one of {divisors}"
        )
    return found


def _table(run: RunConfig) -> str:
    """The sizes that follow from each other."""
    loop, learner, total = run.loop, run.learner, _completions_per_step(run)
    micro = learner.completions_per_micro_batch or completions_per_micro_batch(run)
    passes, rest = divmod(total, micro)
    rows = {
        "loop.prompts_per_step": str(loop.prompts_per_step),
        "x loop.completions_per_prompt": str(loop.completions_per_prompt),
        "= completions per step": str(total),
        "/ learner.completions_per_micro_batch": str(micro),
        "= micro-batches per optimizer step": f"{passes}, and {rest} completions left over" if rest else str(passes),
        "x loop.steps, in all": f"{loop.steps * total} completions",
    }
    width = max(map(len, rows))
    return "The sizes are:\n" + "\n".join(f"    {name:<{width}}  {text}" for name, text in rows.items())
