"""The order in which the steps of a run take its training tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rft.config import RunConfig
from rft.config.mixture import trained_families
from rft.config.schema import DataConfig
from rft.data.curriculum import Curriculum
from rft.data.mixture import Family, FixedShares, MixedTasks, Shares, family_shares
from rft.data.order import ShuffledTasks
from rft.run_folder.recorder import read_metrics
from rft.types import Task


def task_order(run: RunConfig, tasks: Sequence[Task]) -> ShuffledTasks | MixedTasks:
    """Return the order of training tasks.

    Args:
        run: The configuration. A curriculum reads the metrics in its run folder.
        tasks: The training tasks, of which there are enough; see `rft.run.inputs.fitting.check_enough`.
    """
    if not run.data.mixture:
        return ShuffledTasks(tasks, run.loop.prompts_per_step, run.seed)
    return MixedTasks(tasks, _shares(run, tasks), prompts_per_step=run.loop.prompts_per_step, seed=run.seed)


OTHER_ORDER = 7919
"""Added to the seed for an order that does not begin with the tasks of the first steps."""


def first_tasks(run: RunConfig, tasks: Sequence[Task], *, steps: int) -> list[Task]:
    """Return the tasks of the first steps, in order; with a curriculum, as its first shares choose them."""
    order = _order(run, tasks, run.seed)
    return [task for step in range(1, steps + 1) for task in order.of_step(step)]


def some_tasks(run: RunConfig, tasks: Sequence[Task], *, count: int) -> list[Task]:
    """Return up to `count` different tasks in the proportions of the first step, in another order than the run's."""
    order = _order(run, tasks, run.seed + OTHER_ORDER)
    steps = -(-min(count, len(tasks)) // run.loop.prompts_per_step)
    drawn = {task.id: task for step in range(1, steps + 1) for task in order.of_step(step)}
    return list(drawn.values())[:count]


def _order(run: RunConfig, tasks: Sequence[Task], seed: int) -> ShuffledTasks | MixedTasks:
    """Return an order with the shares of the first step."""
    if not run.data.mixture:
        return ShuffledTasks(tasks, run.loop.prompts_per_step, seed)
    shares = FixedShares(shares_of(run.data, tasks))
    return MixedTasks(tasks, shares, prompts_per_step=run.loop.prompts_per_step, seed=seed)


def shares_of(data: DataConfig, tasks: Sequence[Task]) -> dict[str, float]:
    """Return the share of each trained family in the first step, by name; empty without a mixture.

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
        f"data.mixture.{name}: a step takes up to {most} of its tasks, and there are {sizes[name]}; give more, or "
        "lower its weight or loop.prompts_per_step"
        for name, most in order.most_per_step.items()
        if sizes[name] < most
    ]


def _shares(run: RunConfig, tasks: Sequence[Task]) -> Shares:
    base, curriculum = shares_of(run.data, tasks), run.data.curriculum
    if curriculum is None:
        return FixedShares(base)
    return Curriculum(
        base,
        fixed=frozenset(name for name, family in run.data.mixture.items() if family.older),
        every_steps=curriculum.every_steps,
        floor=curriculum.floor,
        staleness=run.loop.staleness,
        read=partial(read_metrics, Path(run.output_dir)),
    )
