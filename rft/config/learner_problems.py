"""Checks `learner` and batch sizes before any process starts."""

from __future__ import annotations

from rft.config.learners.base import SEQUENCES
from rft.config.schema import RunConfig

ON_QUANTIZED = ("lora", "rslora")
"""Methods of `learner.adapter` that a quantized base model can have."""
MAX_ROWS_ON_CPU = 8
"""Completions of a micro-batch on a CPU. More would gain no speed, and exceed the caches."""


def completions_per_micro_batch(run: RunConfig) -> int:
    """Return the completions of a micro-batch on a CPU: as configured, or the largest divisor of a step's up to 8.

    `rft.memory.sizes` chooses those on a GPU by its memory.
    """
    total = sequences_per_step(run)
    configured = run.learner.completions_per_micro_batch
    return configured or max(size for size in range(1, min(MAX_ROWS_ON_CPU, total) + 1) if total % size == 0)


def learner_problems(run: RunConfig) -> list[str]:
    """Return the problems of the learner and of the batch sizes, one sentence each."""
    learner = run.learner
    problems = _size_problems(run)
    if problems and learner.takes == "groups":
        problems[-1] += f". {_table(run)}"
    if learner.num_workers > 1:
        total = sequences_per_step(run)
        problems += learner.rank_problems(
            completions_per_step=total, micro_batches_per_step=total // completions_per_micro_batch(run)
        )
    if learner.num_gpus is not None and learner.num_gpus > 1:
        problems.append(
            f"learner.num_gpus={learner.num_gpus:g}: each rank of the learner uses at most one GPU; set "
            f"learner.num_gpus=1, and learner.num_workers={learner.num_gpus:.0f} to train on several GPUs"
        )
    if learner.takes != "groups":
        problems += _demonstration_problems(run)
    if learner.base is not None:
        problems += _base_problems(run)
    return problems + learner.adapter.problems() + learner.problems()


def _base_problems(run: RunConfig) -> list[str]:
    """Refuse settings that do not fit a quantized base model."""
    learner, problems = run.learner, list[str]()
    given = f"learner.base={learner.base}"
    if not learner.trains_a_model:
        problems.append(f"{given}: learner={learner.kind} has no base model; leave learner.base out")
    if learner.adapter.method not in ON_QUANTIZED:
        problems.append(
            f"{given}: learner.adapter={learner.adapter.method} needs weights that a quantized base model lacks; use "
            f"learner.adapter={' or '.join(ON_QUANTIZED)}, or leave learner.base out"
        )
    if run.model.dtype == "float16":
        problems.append(
            f"{given}: the scales of quantized weights are numbers in bfloat16, and model.dtype=float16 would round "
            "them; use model.dtype=bfloat16 or float32"
        )
    return problems


def _demonstration_problems(run: RunConfig) -> list[str]:
    """Refuse settings of sampling during the training of a run that learns from demonstrations or preferences."""
    loop, learner = run.loop, run.learner
    given = {
        "loop.staleness": loop.staleness,
        "loop.refill_rounds": loop.refill_rounds,
        "loop.pass_rate": loop.pass_rate and loop.pass_rate.model_dump(),
    }
    return [
        f"{key}={str(value).lower()}: learner={learner.kind} learns from {learner.takes}, and samples nothing for "
        f"training; leave {key} out"
        for key, value in given.items()
        if value
    ]


def sequences_per_step(run: RunConfig) -> int:
    """Return the completions, the demonstrations, or the answers of preferences, that the learner gets in a step."""
    of_a_prompt = {"groups": run.loop.completions_per_prompt, "preferences": 2}
    return run.loop.prompts_per_step * of_a_prompt.get(run.learner.takes, 1)


def _size_problems(run: RunConfig) -> list[str]:
    loop, total, micro = run.loop, sequences_per_step(run), run.learner.completions_per_micro_batch
    if run.learner.takes != "groups":
        problems = run.learner.batch_problems(prompts_per_step=total, completions_per_prompt=1) if total == 1 else []
        return problems if micro is None or total % micro == 0 else [*problems, _row_problem(run, total, micro)]
    problems = run.learner.batch_problems(
        prompts_per_step=loop.prompts_per_step, completions_per_prompt=loop.completions_per_prompt
    )
    if micro is not None and total % micro:
        divisors = ", ".join(str(size) for size in range(1, total + 1) if total % size == 0)
        problems.append(
            f"learner.completions_per_micro_batch={micro}: must divide the {total} completions of a step "
            f"(loop.prompts_per_step={loop.prompts_per_step} x loop.completions_per_prompt="
            f"{loop.completions_per_prompt}): one of {divisors}"
        )
    return problems


def _row_problem(run: RunConfig, total: int, micro: int) -> str:
    divisors = ", ".join(str(size) for size in range(1, total + 1) if total % size == 0)
    return (
        f"learner.completions_per_micro_batch={micro}: must divide the {total} {SEQUENCES[run.learner.takes]} of a "
        f"step (loop.prompts_per_step): one of {divisors}"
    )


def _table(run: RunConfig) -> str:
    """Return a table of the batch sizes and of the sizes that follow from them."""
    loop, learner, total = run.loop, run.learner, sequences_per_step(run)
    micro = learner.completions_per_micro_batch or completions_per_micro_batch(run)
    passes, rest = divmod(total, micro)
    rows = {
        "loop.prompts_per_step": str(loop.prompts_per_step),
        "x loop.completions_per_prompt": str(loop.completions_per_prompt),
        "= completions per step": str(total),
        "/ learner.completions_per_micro_batch": str(micro),
        "= micro-batches per optimizer step": f"{passes}, and {rest} completions left over" if rest else str(passes),
        "x loop.steps": f"{loop.steps * total} completions in total",
    }
    width = max(map(len, rows))
    return "The sizes are:\n" + "\n".join(f"    {name:<{width}}  {text}" for name, text in rows.items())
