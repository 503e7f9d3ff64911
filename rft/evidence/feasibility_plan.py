"""The steps, tokens, time and cost of a run, from measured times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rft.config import RunConfig, sequences_per_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What the run in question will do.

    Example:
        Planned(visits={"3f1c...": 1, ...}, num_train=2000, num_validation=100, num_held_out=250)
    """

    visits: Mapping[str, int]
    """Number of groups of each task in the first steps, by task id, for the prediction."""
    num_train: int
    """Number of training tasks."""
    num_validation: int
    """Number of validation tasks of each measurement during the run."""
    num_held_out: int
    """Number of tasks measured before and after the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Measured times, in seconds.

    Example:
        Timing(step_s=1.2, completion_s=0.01, learn_s=2.1, sync_s=0.1, start_s=21.0)
    """

    step_s: float
    """Sampling and grading of the completions of one step."""
    completion_s: float
    """Sampling and grading, by completion, of many completions at once."""
    start_s: float
    """The time until samplers and learner were ready."""
    learn_s: float | None = None
    """One optimizer step; None if it was not measured."""
    sync_s: float | None = None
    """One sync; None if it was not measured."""


def plan_of(
    run: RunConfig, planned: Planned, timing: Timing, sampled: Mapping[str, Any], *, informative: float | None
) -> dict[str, Any]:
    """Return steps, tokens, time and cost of a run.

    Args:
        run: The configuration of the run.
        planned: What it will do.
        timing: Measured times.
        sampled: `sampled` of feasibility.json.
        informative: Share of informative groups, which says how often a step refills; None if unknown.
    """
    steps, loop, how = run.loop.steps, run.loop, run.evaluation
    rounds = min(1 + loop.refill_rounds, 1 / informative if informative else 1 + loop.refill_rounds)
    completions = round(steps * sequences_per_step(run) * rounds)
    measured = 2 * planned.num_held_out
    measured += (steps // how.every_steps) * planned.num_validation if how.every_steps else 0
    evaluated = measured * how.completions_per_task
    sample_s = timing.step_s * rounds
    learn_s, sync_s = timing.learn_s or 0.0, timing.sync_s or 0.0
    # Ahead of the learner, the next batch is sampled while it learns.
    one_step_s = (max(sample_s, learn_s) if loop.staleness else sample_s + learn_s) + sync_s
    total_s = timing.start_s + steps * one_step_s + evaluated * timing.completion_s
    price = run.feasibility.price_per_hour
    return {
        "steps": steps,
        "passes": steps * loop.prompts_per_step / planned.num_train,
        "completions": completions,
        "tokens": round(completions * sampled["completion_tokens_mean"]),
        "evaluation_completions": evaluated,
        "start_s": timing.start_s,
        "sample_and_grade_s": sample_s,
        "learn_s": timing.learn_s,
        "sync_s": timing.sync_s,
        "evaluation_s": evaluated * timing.completion_s,
        "total_s": total_s,
        "has_learner": timing.learn_s is not None,
        "cost": None if price is None else price * total_s / 3600,
    }
