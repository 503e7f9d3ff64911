"""The length of a run in epochs: `loop.num_epochs` becomes `loop.steps` as soon as the number of tasks is known."""

from __future__ import annotations

import math
from collections.abc import Collection
from fractions import Fraction

from rft.config.schema import RunConfig
from rft.errors import ConfigError


def both_lengths(run: RunConfig, given: Collection[str]) -> list[str]:
    """Refuse a number of steps beside a number of epochs, of which one would have no effect.

    Args:
        run: The configuration.
        given: Keys on the command line.
    """
    if run.loop.num_epochs is None or "loop.steps" not in given:
        return []
    return [
        f"loop.steps={run.loop.steps}: loop.num_epochs={run.loop.num_epochs:g} sets the length of the run; leave one "
        "of them out, or set loop.num_epochs=null if a preset gives it"
    ]


def epoch_problems(run: RunConfig) -> list[str]:
    """Refuse epochs where the number of tasks, or of passes over them, is not known before the run."""
    loop = run.loop
    if loop.num_epochs is None:
        return []
    reasons = {
        "data.mixture": "its families have different numbers of passes" if run.data.mixture else "",
        "loop.pass_rate": "the number of tasks is known only after their measurement" if loop.pass_rate else "",
    }
    return [
        f"loop.num_epochs={loop.num_epochs:g}: with {key}, {reason}; use loop.steps"
        for key, reason in reasons.items()
        if reason
    ]


def with_steps(run: RunConfig, num_tasks: int) -> RunConfig:
    """Return a run with `loop.steps` in place of `loop.num_epochs`; the last step completes the last epoch.

    Args:
        run: The configuration.
        num_tasks: Number of training tasks.

    Raises:
        ConfigError: The samplers would run ahead of the last step.
    """
    loop = run.loop
    if loop.num_epochs is None:
        return run
    steps = math.ceil(Fraction(str(loop.num_epochs)) * num_tasks / loop.prompts_per_step)
    if loop.staleness >= steps:
        raise ConfigError("configuration", [staleness_problem(loop.staleness, f"the {steps} steps of the run")])
    return run.model_copy(update={"loop": loop.model_copy(update={"steps": steps, "num_epochs": None})})


def staleness_problem(staleness: int, steps: str) -> str:
    """Return the refusal of samplers that run ahead of the whole run."""
    return f"loop.staleness={staleness}: must be less than {steps}, or no trained policy would sample"
