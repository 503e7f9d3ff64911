"""Grades the answers of demonstrations with the graders of the run, and lists those that score below the best.

A demonstration that its own grader fails is suspect: the model would learn what the grader rejects.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from rft.batches import Panel
from rft.data.demonstration_records import Demonstration
from rft.errors import GradeError
from rft.events import Measured
from rft.metrics.drops import count_drops
from rft.metrics.held_out import metric_bounds
from rft.metrics.intervals import estimate
from rft.run.inputs.grader_samples import as_rollout
from rft.types import EQUAL_REWARDS, GradedGroup, Rollout, Task
from rft.wording import plural

MAX_SHOWN = 10
"""Number of demonstrations to list; rollouts.jsonl holds all of them."""


async def graded_demonstrations(
    panel: Panel,
    tasks: Sequence[Task],
    graders: Mapping[str, Mapping[str, Any]],
    families: Mapping[str, Collection[str]] | None = None,
) -> tuple[Measured, str]:
    """Grade the answer of each demonstration.

    Args:
        panel: Grades the answers.
        tasks: The demonstrations.
        graders: Configuration entries of the panel's graders, by name.
        families: Names of the graders of each family of a mixture.

    Returns:
        The scores as a measurement, and a warning about low or missing ones; an empty text without any.

    Raises:
        GradeError: No answer could be graded.
    """
    demonstrations = [task for task in tasks if isinstance(task, Demonstration)]

    async def answers() -> AsyncIterator[Rollout]:
        for demonstration in demonstrations:
            yield as_rollout(demonstration, 0, demonstration.answer)

    groups = await panel.grade(demonstrations, answers(), rollouts_per_task=1)
    rewards = [reward for group in groups for reward in group.rewards if reward is not None]
    if not rewards:
        raise GradeError(f"none of the {len(groups)} demonstrations could be graded: {count_drops(groups)}")
    measured = Measured(
        phase="demonstrations",
        step=0,
        estimate=estimate(rewards, bounds=metric_bounds(graders, "reward", families)),
        groups=tuple(groups),
    )
    return measured, _warning(groups)


def _warning(groups: Sequence[GradedGroup]) -> str:
    """List the demonstrations that score below the best of their family, and count those without a reward."""
    scored = [(group.task, reward) for group in groups for reward in group.rewards if reward is not None]
    best: dict[str, float] = {}
    for task, reward in scored:
        best[task.family] = max(reward, best.get(task.family, reward))
    low = sorted(
        (
            (reward, task.where or task.id)
            for task, reward in scored
            if reward < best[task.family] - EQUAL_REWARDS * abs(best[task.family])
        ),
        key=lambda pair: pair[0],
    )
    parts = []
    if low:
        limit = f"{best['']:g}" if "" in best else "the best of their family"
        mean = statistics.fmean(reward for reward, _ in low)
        some = ", ".join(f"{where} ({reward:g})" for reward, where in low[:MAX_SHOWN])
        more = ", ..." if len(low) > MAX_SHOWN else ""
        parts.append(
            f"{len(low)} of {plural(len(scored), 'demonstration')} score below {limit}, {mean:.3g} on average: "
            f"{some}{more}; remove them from data.train unless their grader is wrong"
        )
    if num_missing := len(groups) - len(scored):
        parts.append(f"{plural(num_missing, 'demonstration')} without a score: {count_drops(groups)}")
    return "; ".join(parts)
