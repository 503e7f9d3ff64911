"""The order in which the steps of a run take its training tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rft.config import RunConfig
from rft.config.mixture import trained_families
from rft.config.schema import DataConfig
from rft.data.mixture import Family, MixedTasks, family_shares
from rft.data.order import ShuffledTasks
from rft.types import Task


def task_order(run: RunConfig, tasks: Sequence[Task]) -> ShuffledTasks | MixedTasks:
    """Return the order of training tasks.

    Args:
        run: The configuration.
        tasks: The training tasks, of which there are enough; see `rft.run.fitting.check_enough`.
    """
    if not run.data.mixture:
        return ShuffledTasks(tasks, run.loop.prompts_per_step, run.seed)
    shares = shares_of(run.data, tasks)
    return MixedTasks(tasks, shares, prompts_per_step=run.loop.prompts_per_step, seed=run.seed)


def shares_of(data: DataConfig, tasks: Sequence[Task]) -> dict[str, float]:
    """Return the share of each trained family in a step, by name; empty without a mixture.

    Args:
        data: The configuration of the tasks.
        tasks: The training tasks; each trained family has some.
    """
    if not data.mixture:
        return {}
    sizes = Counter(task.family for task in tasks)
    families = {
        name: Family(num_tasks=sizes[name], weight=family.weight, cap=family.cap, older=family.older)
        for name, family in trained_families(data).items()
    }
    return family_shares(families, temperature=data.temperature, replay=data.replay)


def mixture_shortages(run: RunConfig, tasks: Sequence[Task]) -> list[str]:
    """Return one problem for each family of a mixture with fewer training tasks than a step may take."""
    sizes = Counter(task.family for task in tasks)
    if empty := [name for name in trained_families(run.data) if not sizes[name]]:
        return [f"data.mixture.{name}.source: no training task is left; give others, or remove it" for name in empty]
    order = task_order(run, tasks)
    if not isinstance(order, MixedTasks):
        return []
    return [
        f"data.mixture.{name}: a step takes up to {most} of its tasks, and there are {sizes[name]}; give more, or lower "
        "its weight or loop.prompts_per_step"
        for name, most in order.most_per_step.items()
        if sizes[name] < most
    ]
