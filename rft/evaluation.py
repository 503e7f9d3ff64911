"""Measuring a policy on held-out tasks, with the same sampler and the same graders as in training."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft.batches import Panel, Sampler
from rft.errors import GradeError
from rft.intervals import UNIT, Estimate, estimate
from rft.types import GradedGroup, Policy, Task, count_drops


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How a policy did on tasks.

    Example:
        Evaluation(policy=Policy(...), metric="reward", estimate=Estimate(...), by_task={"3f1c...": 1.0}, groups=(...))
    """

    policy: Policy
    """The policy that was measured."""
    metric: str
    """`reward`, or the name of a grader."""
    estimate: Estimate
    """Mean over tasks with its 95% interval."""
    by_task: Mapping[str, float]
    """Mean over a task's completions, by task id; tasks none of whose completions could be graded are left out."""
    groups: tuple[GradedGroup, ...]
    """Everything that was sampled and graded."""


async def evaluate(
    sampler: Sampler,
    panel: Panel,
    tasks: Sequence[Task],
    *,
    policy: Policy,
    metric: str,
    completions_per_task: int,
    temperature: float,
    purpose: str,
    bounds: tuple[float, float] = UNIT,
) -> Evaluation:
    """Sample and grade held-out tasks under the policy that the sampler serves.

    The seeds of completions do not depend on the policy, so two policies are compared with the same random numbers.
    `bounds` are those of the metric, as `metric_bounds` returns them.

    Raises:
        GradeError: Not a single completion could be graded.
    """
    rollouts = sampler.sample(
        tasks, completions_per_task=completions_per_task, temperature=temperature, purpose=purpose, step=0
    )
    groups = await panel.grade(tasks, rollouts, rollouts_per_task=completions_per_task)
    by_task = {group.task.id: statistics.fmean(values) for group in groups if (values := metric_values(group, metric))}
    if not by_task:
        raise GradeError(
            f"none of the {len(tasks)} held-out tasks could be graded with {metric}: {count_drops(groups)}"
        )
    return Evaluation(
        policy=policy,
        metric=metric,
        estimate=estimate(list(by_task.values()), bounds=bounds),
        by_task=by_task,
        groups=tuple(groups),
    )


def metric_values(group: GradedGroup, metric: str) -> list[float]:
    """The metric of each completion of a group that has it."""
    scores = group.rewards if metric == "reward" else [grade.scores[metric].value for grade in group.grades]
    return [score for score in scores if score is not None]


def metric_bounds(graders: Mapping[str, Mapping[str, Any]], metric: str) -> tuple[float, float]:
    """Lowest and highest possible value of a metric; a grader that declares no `range` is taken to score in [0, 1].

    Args:
        graders: Entries of the configuration, by name.
        metric: `reward`, or the name of a grader.
    """
    if metric != "reward":
        low, high = graders[metric].get("range") or UNIT
        return float(low), float(high)
    weighted = [
        sorted(float(spec.get("weight", 1.0)) * float(limit) for limit in spec.get("range") or UNIT)
        for spec in graders.values()
    ]
    return sum(low for low, _ in weighted), sum(high for _, high in weighted)


def recorded_by_task(lines: Iterable[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """Mean of the metric over each task's completions, from lines of rollouts.jsonl; as `Evaluation.by_task`."""
    values: dict[str, list[float]] = {}
    for line in lines:
        value = line["reward"] if metric == "reward" else line["scores"][metric]["value"]
        if value is not None:
            values.setdefault(line["task_id"], []).append(value)
    return {task_id: statistics.fmean(of_task) for task_id, of_task in values.items()}


def caveats(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """The caveats of the three estimates of `eval` in summary.json, by the row of the table that each belongs to."""
    labels = {"before": "before", "after": "after", "difference": "after - before"}
    estimates = {label: evaluation.get(name) for name, label in labels.items()}
    return {label: obj["caveat"] for label, obj in estimates.items() if obj and obj.get("caveat")}
