"""The number of completions that a run requests of one engine at the same time."""

from __future__ import annotations

from rft.config import EvaluateConfig, RunConfig
from rft.run.inputs.prepare import Prepared


def completions_in_flight(config: RunConfig | EvaluateConfig, prepared: Prepared) -> int:
    """Return the highest number of unfinished completions of one engine.

    Batches that are sampled ahead may overlap with a measurement of held-out tasks.
    """
    how, tasks = config.evaluation, prepared.tasks
    if isinstance(config, EvaluateConfig):
        return _per_engine(config, len(tasks.test), how.completions_per_task)
    loop = config.loop
    is_sampled = config.learner.takes == "groups"
    batch = _per_engine(config, loop.prompts_per_step, loop.completions_per_prompt) if is_sampled else 0
    num_held_out = max(len(tasks.validation[: how.max_validation_tasks]), len(prepared.held_out))
    phases = [batch, _per_engine(config, num_held_out, how.completions_per_task)]
    if loop.pass_rate is not None:
        phases.append(_per_engine(config, len(tasks.train), loop.pass_rate.completions_per_task))
    return loop.staleness * batch + max(phases)


def _per_engine(config: RunConfig | EvaluateConfig, num_tasks: int, completions_per_task: int) -> int:
    # The fleet deals tasks out in turn, and one engine samples all completions of a task.
    return -(-num_tasks // config.sampler.num_actors) * completions_per_task
