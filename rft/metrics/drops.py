"""Counts rollouts without a reward, by cause."""

from __future__ import annotations

from collections.abc import Sequence

from rft.types import GradedGroup


def count_drops(groups: Sequence[GradedGroup]) -> dict[str, int]:
    """Count rollouts without a reward by cause: `{"correct: grader error": 2, "environment: ... (tool search)": 1}`.

    If several graders failed on a rollout, it counts under the first one, so the counts add up to the dropped rollouts.
    """
    drops: dict[str, int] = {}
    for grade in (grade for group in groups for grade in group.grades if grade.reward is None):
        missing = [(name, score) for name, score in grade.scores.items() if score.value is None]
        missing.sort(key=lambda item: not item[1].status.is_grader_fault)
        cause = next((f"{name}: {score.status}" for name, score in missing), "no score")
        if missing and (reason := missing[0][1].reason or "").startswith("tool "):
            cause += f" ({reason.partition(':')[0]})"
        drops[cause] = drops.get(cause, 0) + 1
    return drops
