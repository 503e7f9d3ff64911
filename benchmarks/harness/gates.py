"""What must hold before two arms may be compared; each gate says what it found, and one that fails ends the comparison.

A comparison of different work is worth less than none: the gates look for another model, other tasks, other prompts,
another adapter, another number of samples or of tokens, and for a side that learns worse.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from scipy import stats

from harness.arms import Job, Outcome, flatten

TOKENS_TOLERANCE = 0.05
"""Relative difference of the mean length that is allowed beyond what chance explains."""
NUM_ERRORS = 4.0
"""Standard errors that chance is granted: about one comparison in ten thousand goes beyond."""

Gate = Callable[[Outcome, Outcome, Job], str | None]


def failures(outcomes: Sequence[Outcome], job: Job, *, learns: bool = True) -> list[str]:
    """What is wrong with comparing these outcomes, in words; nothing when they may be compared.

    Args:
        outcomes: Of all arms and repeats; each is held against the first.
        job: What all were to do.
        learns: Whether rewards are compared; jobs of a step or two say nothing about learning.
    """
    found = [problem for outcome in outcomes for problem in complete(outcome, job)]
    first, gates = outcomes[0], (*GATES, same_rewards) if learns else GATES
    if not found:  # what is not complete cannot be compared
        for other in outcomes[1:]:
            found += [problem for gate in gates if (problem := gate(first, other, job))]
    return list(dict.fromkeys(found))


def complete(outcome: Outcome, job: Job) -> list[str]:
    """Every step is there, with every completion."""
    wanted = job.prompts_per_step * job.completions_per_prompt
    found = []
    if not len(outcome.tokens) == len(outcome.ended_s) - 1 == len(outcome.rewards) == job.steps:
        found.append(
            f"{outcome.arm}: {len(outcome.tokens)} steps were sampled, {len(outcome.rewards)} graded and "
            f"{len(outcome.ended_s) - 1} ended, not {job.steps}"
        )
    for step, (tokens, rewards) in enumerate(zip(outcome.tokens, outcome.rewards, strict=False), start=1):
        num_rewards = len([reward for reward in flatten(rewards) if reward is not None])
        if not len(tokens) == num_rewards == wanted:
            found.append(
                f"{outcome.arm}: step {step} has {len(tokens)} completions and {num_rewards} rewards, not {wanted}"
            )
    return found


def _equal(what: str, get: Callable[[Outcome], Any]) -> Gate:
    def gate(one: Outcome, other: Outcome, job: Job) -> str | None:
        if get(one) == get(other):
            return None
        return f"{what}: {one.arm} has {_short(get(one))}, {other.arm} has {_short(get(other))}"

    return gate


def same_tokens(one: Outcome, other: Outcome, job: Job) -> str | None:
    """Both sides sampled equally many tokens, up to chance and `TOKENS_TOLERANCE`."""
    lengths = [[float(length) for length in flatten(outcome.tokens)] for outcome in (one, other)]
    means = [statistics.fmean(of_arm) for of_arm in lengths]
    error = math.hypot(*(statistics.stdev(of_arm) / math.sqrt(len(of_arm)) for of_arm in lengths))
    allowed = TOKENS_TOLERANCE * means[0] + NUM_ERRORS * error
    if abs(means[0] - means[1]) <= allowed:
        return None
    return (
        f"tokens: {one.arm} sampled {means[0]:.1f} a completion, {other.arm} {means[1]:.1f}; that differs by more than "
        f"{allowed:.1f}"
    )


def same_rewards(one: Outcome, other: Outcome, job: Job) -> str | None:
    """After equally many samples the rewards are the same, up to chance. Groups, not completions, are independent."""
    means = [[statistics.fmean(group) for group in flatten(outcome.rewards)] for outcome in (one, other)]
    difference = statistics.fmean(means[0]) - statistics.fmean(means[1])
    error = math.hypot(*(statistics.stdev(of_arm) / math.sqrt(len(of_arm)) for of_arm in means))
    if abs(difference) <= NUM_ERRORS * error:
        return None
    return (
        f"rewards: {one.arm} earned {statistics.fmean(means[0]):.3f} on average, {other.arm} "
        f"{statistics.fmean(means[1]):.3f}; the standard error of the difference is {error:.3f}"
    )


GATES: tuple[Gate, ...] = (
    _equal("base model", lambda outcome: outcome.model_sha),
    _equal("adapter before the first step", lambda outcome: outcome.first_adapter),
    _equal("LoRA", lambda outcome: dict(outcome.lora)),
    _equal("learning rate", lambda outcome: outcome.learning_rate),
    _equal("tasks, in order", lambda outcome: [list(step) for step in outcome.tasks]),
    _equal("prompt tokens", lambda outcome: list(outcome.prompts)),
    same_tokens,
)
"""What is looked at whatever the job."""


def parity(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Compare a figure of several seeds, seed by seed.

    Args:
        one: `[S]` the figure of one side, by seed.
        other: `[S]` of the other, for the same seeds.

    Returns:
        `difference` (mean of `one - other`), its 95% interval `low` and `high` (Student's t over the pairs), and `p`
        of the paired t-test.
    """
    result = stats.ttest_rel(one, other)
    interval = result.confidence_interval(0.95)
    differences = [a - b for a, b in zip(one, other, strict=True)]
    return {
        "difference": statistics.fmean(differences),
        "low": float(interval.low),
        "high": float(interval.high),
        "p": float(result.pvalue),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
