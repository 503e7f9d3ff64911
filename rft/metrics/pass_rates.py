"""Pass rates: the base model's mean reward on each training task, measured once before the first step.

Tasks that the base model always or never solves yield groups of equal rewards, which teach nothing. They can be removed
before training, as in Kimi k1.5 (arXiv 2501.12599, section 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rft.errors import DataError
from rft.types import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """The remaining training tasks.

    Example:
        Filtered(tasks=[task], metrics={"tasks/kept": 1.0, "tasks/too_easy": 3.0, ...})
    """

    tasks: Sequence[Task]
    """Remaining tasks, in order."""
    metrics: Mapping[str, float]
    """`tasks/kept`, `tasks/too_easy`, `tasks/too_hard`, and `tasks/ungraded` (tasks without any reward)."""


def filter_by_pass_rate(
    tasks: Sequence[Task], by_task: Mapping[str, float], *, min: float, max: float, at_least: int
) -> Filtered:
    """Keep the tasks whose pass rate lies within bounds.

    Args:
        tasks: The training tasks.
        by_task: Mean reward over the completions of a task, by task id; ungraded tasks are absent.
        min: Tasks with a lower mean reward are too hard.
        max: Tasks with a higher mean reward are too easy.
        at_least: Minimum number of remaining tasks: the tasks of one step.

    Raises:
        DataError: Too few tasks remain.
    """
    kept = [task for task in tasks if task.id in by_task and min <= by_task[task.id] <= max]
    too_hard = sum(by_task[task.id] < min for task in tasks if task.id in by_task)
    too_easy = sum(by_task[task.id] > max for task in tasks if task.id in by_task)
    ungraded = sum(task.id not in by_task for task in tasks)
    if len(kept) < at_least:
        problem = (
            f"loop.pass_rate: only {len(kept)} of {len(tasks)} training tasks have a pass rate from {min:g} to {max:g} "
            f"under the base model ({too_hard} below, {too_easy} above, {ungraded} without a reward), and a step needs "
            f"loop.prompts_per_step={at_least}; widen the bounds, or use other tasks"
        )
        raise DataError("task files", [problem])
    counts = {"kept": len(kept), "too_easy": too_easy, "too_hard": too_hard, "ungraded": ungraded}
    return Filtered(tasks=kept, metrics={f"tasks/{name}": float(count) for name, count in counts.items()})
