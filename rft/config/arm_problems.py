"""Checks `evaluation.arms`, which compares results with and without passages."""

from __future__ import annotations

from rft.config.mixture import sources
from rft.config.schema import EvaluateConfig, RunConfig


def arm_problems(config: RunConfig | EvaluateConfig) -> list[str]:
    """Return the problems of `evaluation.arms`, one sentence each."""
    if not config.evaluation.arms:
        return []
    if isinstance(config, EvaluateConfig):
        problem = (
            "evaluation.arms=true: rft evaluate measures one policy, and rft train compares four arms; to measure an "
            "adapter without passages, add retrieval=none"
        )
        return [problem]
    problems = []
    if not config.retrieval.is_on:
        problems.append(
            "evaluation.arms=true: compares results with and without passages, and retrieval=none shows no passages; "
            "choose a store, such as retrieval=local, or leave it out"
        )
    is_measured = sources(config.data, "test") or sources(config.data, "validation") or config.data.validation_share
    if not is_measured:
        problems.append(
            "evaluation.arms=true: nothing is measured before and after the run; give data.test or data.validation"
        )
    return problems
