"""Measures a policy on held-out tasks, with the sampler and graders of training."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rft.batches import Panel, Sampler
from rft.config.evaluation import EvaluationConfig
from rft.errors import GradeError
from rft.metrics.drops import count_drops
from rft.metrics.held_out import graders_of, metric_bounds, metric_values
from rft.metrics.intervals import Estimate, estimate
from rft.types import GradedGroup, Policy, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The measurement of a policy on tasks.

    Example:
        Evaluation(policy=Policy(...), metric="reward", estimate=Estimate(...), by_task={"3f1c...": 1.0}, groups=(...))
    """

    policy: Policy
    """The measured policy."""
    metric: str
    """`reward`, or the name of a grader."""
    estimate: Estimate
    """Mean over tasks with its 95% interval."""
    by_task: Mapping[str, float]
    """Mean over the completions of each task, by task id; tasks without a graded completion are absent."""
    groups: tuple[GradedGroup, ...]
    """All sampled and graded groups."""
    independent: Mapping[str, float] = field(default_factory=dict)
    """Mean score of the independent grader over the completions of each task, by task id; empty without one."""
    families: Mapping[str, Estimate] = field(default_factory=dict)
    """Mean over the tasks of each family of a mixture; families without a graded completion are absent."""

    def to_metrics(self, prefix: str) -> dict[str, float]:
        """Return entries for metrics.jsonl: `{"eval/mean": 0.8, ..., "eval/gcd/mean": 0.7, ...}`."""
        metrics = self.estimate.to_metrics(prefix)
        for name, of_family in self.families.items():
            metrics |= of_family.to_metrics(f"{prefix}/{name}")
        return metrics


async def evaluate(
    sampler: Sampler,
    panel: Panel,
    tasks: Sequence[Task],
    *,
    policy: Policy,
    how: EvaluationConfig,
    graders: Mapping[str, Mapping[str, Any]],
    families: Mapping[str, Collection[str]] | None = None,
    purpose: str = "held-out",
) -> Evaluation:
    """Sample and grade tasks under the current policy of the sampler.

    The seeds of completions do not depend on the policy, so comparisons with one purpose use the same random numbers.

    Args:
        sampler: Samples the completions.
        panel: Grades the completions.
        tasks: The tasks to measure.
        policy: The current policy.
        how: Metric, temperature and completions per task.
        graders: Configuration entries of the panel's graders, by name.
        families: Names of the graders of each family of a mixture.
        purpose: Purpose of the completions, part of their seeds.

    Raises:
        GradeError: No completion could be graded.
    """
    rollouts = sampler.sample(
        tasks, completions_per_task=how.completions_per_task, temperature=how.temperature, purpose=purpose, step=0
    )
    groups = await panel.grade(tasks, rollouts, rollouts_per_task=how.completions_per_task)
    metric = how.metric
    by_task = {group.task.id: statistics.fmean(values) for group in groups if (values := metric_values(group, metric))}
    if not by_task:
        raise GradeError(
            f"none of the {len(tasks)} held-out tasks could be graded with {metric}: {count_drops(groups)}"
        )
    return Evaluation(
        policy=policy,
        metric=metric,
        estimate=estimate(list(by_task.values()), bounds=metric_bounds(graders, metric, families)),
        by_task=by_task,
        groups=tuple(groups),
        independent=_scores_by_task(groups, how.independent_grader) if how.independent_grader else {},
        families={
            name: estimate(values, bounds=metric_bounds(graders_of(graders, names), metric))
            for name, names in (families or {}).items()
            if (values := [by_task[task.id] for task in tasks if task.family == name and task.id in by_task])
        },
    )


def _scores_by_task(groups: Sequence[GradedGroup], grader: str) -> dict[str, float]:
    """Return the mean score by task id, of the tasks that the grader has scored."""
    scored = [group for group in groups if all(grader in grade.scores for grade in group.grades)]
    return {group.task.id: statistics.fmean(values) for group in scored if (values := metric_values(group, grader))}
