"""What is wrong with `learner` and with the batch sizes, before anything heavy starts."""

from __future__ import annotations

from rft.config.learners import FakeLearnerConfig, GrpoLearnerConfig, PolicyLearnerConfig, PpoLearnerConfig
from rft.config.schema import RunConfig
from rft.config.trl_problems import trl_problems

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
    found += _rank_problems(run)
    if isinstance(learner, GrpoLearnerConfig):
        if learner.loss_type == "luspo" and learner.importance_sampling_level != "sequence":
            found.append(
                "learner.loss_type=luspo: weighs whole completions; use learner.importance_sampling_level=sequence"
            )
        if learner.clip_high is not None and learner.loss_type in ("sapo", "vespo"):
            found.append(
                f"learner.clip_high={learner.clip_high:g}: learner.loss_type={learner.loss_type} does not clip; "
                "leave it out"
            )
        if learner.advantage == "rloo" and learner.scale_rewards != "none":
            found.append(
                f"learner.scale_rewards={learner.scale_rewards}: learner.advantage=rloo does not scale rewards; use "
                "learner.scale_rewards=none"
            )
    if isinstance(learner, PolicyLearnerConfig):
        found += trl_problems(learner)
    return found


def _completions_per_step(run: RunConfig) -> int:
    return run.loop.prompts_per_step * run.loop.completions_per_prompt


def _size_problems(run: RunConfig) -> list[str]:
    found = []
    loop, total, micro = run.loop, _completions_per_step(run), run.learner.completions_per_micro_batch
    if isinstance(run.learner, GrpoLearnerConfig) and loop.completions_per_prompt < 2:
        found.append(
            f"loop.completions_per_prompt={loop.completions_per_prompt}: GRPO and RLOO compare the completions of one "
            "prompt, so there must be at least 2; learner=ppo does with 1"
        )
    if isinstance(run.learner, PpoLearnerConfig) and total < 2:
        found.append("loop.prompts_per_step=1: PPO needs at least 2 completions in a step")
    if micro is not None and total % micro:
        divisors = ", ".join(str(size) for size in range(1, total + 1) if total % size == 0)
        found.append(
            f"learner.completions_per_micro_batch={micro}: must divide the {total} completions of a step "
            f"(loop.prompts_per_step={loop.prompts_per_step} x loop.completions_per_prompt="
            f"{loop.completions_per_prompt}): one of {divisors}"
        )
    return found


def _rank_problems(run: RunConfig) -> list[str]:
    learner, total = run.learner, _completions_per_step(run)
    ranks = learner.num_workers
    if ranks == 1:
        return []
    given = f"learner.num_workers={ranks}"
    if isinstance(learner, FakeLearnerConfig):
        return [f"{given}: learner=fake computes nothing that could be shared; use learner.num_workers=1"]
    found = []
    if ranks > total:
        found.append(
            f"{given}: a step has {total} completions, so {ranks - total} of the ranks would have nothing to do; "
            f"use at most {total}, or raise loop.prompts_per_step"
        )
    # Elsewhere micro-batches are divided further where there are too few; what of these stands together matters.
    elif isinstance(learner, GrpoLearnerConfig) and learner.loss_type == "bnpo":
        micro_batches = total // completions_per_micro_batch(run)
        if ranks > micro_batches:
            found.append(
                f"{given}: with learner.loss_type=bnpo whole micro-batches are shared out, and a step has "
                f"{micro_batches}; lower learner.num_workers or learner.completions_per_micro_batch"
            )
    if isinstance(learner, PolicyLearnerConfig) and learner.trl.get("use_adaptive_entropy"):
        found.append(
            f"{given}: learner.trl.use_adaptive_entropy would adapt to what each rank sees; use learner.num_workers=1"
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
