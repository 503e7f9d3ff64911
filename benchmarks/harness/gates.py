"""Gates: the conditions for comparing two arms. A gate that fails describes the difference and ends the comparison.

A comparison of unequal work would mislead. The gates look for another model, other tasks, other prompts, another
adapter, another number of samples or tokens, and a side that learns worse.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from harness.arms import Job, Outcome, flatten

TOKENS_TOLERANCE = 0.05
"""Allowed relative difference of the mean length, in addition to chance."""
NUM_ERRORS = 4.0
"""Allowed difference in standard errors. By chance, about one comparison in ten thousand exceeds it."""

Gate = Callable[[Outcome, Outcome, Job], str | None]


def failures(outcomes: Sequence[Outcome], job: Job, *, learns: bool = True) -> list[str]:
    """Return the reasons why these outcomes cannot be compared.

    Args:
        outcomes: Outcomes of all arms and repeats; each is compared with the first.
        job: The job of all arms.
        learns: Whether rewards are compared. Jobs of one or two steps show nothing about learning.
    """
    problems = [problem for outcome in outcomes for problem in complete(outcome, job)]
    first, gates = outcomes[0], (*GATES, same_rewards) if learns else GATES
    if not problems:  # incomplete outcomes cannot be compared
        for other in outcomes[1:]:
            problems += [problem for gate in gates if (problem := gate(first, other, job))]
    return list(dict.fromkeys(problems))


def complete(outcome: Outcome, job: Job) -> list[str]:
    """Require all steps with all completions."""
    expected = job.prompts_per_step * job.completions_per_prompt
    problems = []
    if not len(outcome.tokens) == len(outcome.ended_s) - 1 == len(outcome.rewards) == job.steps:
        problems.append(
            f"{outcome.arm}: {len(outcome.tokens)} steps were sampled, {len(outcome.rewards)} graded and "
            f"{len(outcome.ended_s) - 1} ended, not {job.steps}"
        )
    for step, (tokens, rewards) in enumerate(zip(outcome.tokens, outcome.rewards, strict=False), start=1):
        num_rewards = len([reward for reward in flatten(rewards) if reward is not None])
        if not len(tokens) == num_rewards == expected:
            problems.append(
                f"{outcome.arm}: step {step} has {len(tokens)} completions and {num_rewards} rewards, not {expected}"
            )
    return problems


def _equal(what: str, get: Callable[[Outcome], Any]) -> Gate:
    def gate(one: Outcome, other: Outcome, job: Job) -> str | None:
        if get(one) == get(other):
            return None
        return f"{what}: {one.arm} has {_short(get(one))}, {other.arm} has {_short(get(other))}"

    return gate


def same_tokens(one: Outcome, other: Outcome, job: Job) -> str | None:
    """Require the same number of sampled tokens, up to chance and `TOKENS_TOLERANCE`."""
    lengths = [[float(length) for length in flatten(outcome.tokens)] for outcome in (one, other)]
    means = [statistics.fmean(of_arm) for of_arm in lengths]
    error = math.hypot(*(statistics.stdev(of_arm) / math.sqrt(len(of_arm)) for of_arm in lengths))
    allowed = TOKENS_TOLERANCE * means[0] + NUM_ERRORS * error
    if abs(means[0] - means[1]) <= allowed:
        return None
    return (
        f"tokens: {one.arm} sampled {means[0]:.1f} per completion, {other.arm} {means[1]:.1f}; they differ by "
        f"more than {allowed:.1f}"
    )


def same_rewards(one: Outcome, other: Outcome, job: Job) -> str | None:
    """Require the same rewards after the same number of samples, up to chance. Groups are the independent samples."""
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
"""Gates for every job."""


def parity(one: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Compare a figure of several seeds, seed by seed.

    Args:
        one: `[S]` figures of one side, by seed.
        other: `[S]` figures of the other side, for the same seeds.

    Returns:
        `difference` (mean of `one - other`), its 95% interval `low` and `high` (Student's t over the pairs), and `p`
        of the paired t-test.
    """
    from scipy import stats  # takes a second, and only this function needs it

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
