"""`evaluation`: measurements on held-out tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rft.config.fields import Number, Positive, Section, Temperature


class EvaluationConfig(Section):
    """Measurements on held-out tasks."""

    every_steps: Positive | None = 10
    """Steps between two measurements of the validation tasks; null never measures them."""
    completions_per_task: Positive = 1
    """Completions sampled for each held-out task."""
    temperature: Temperature = 1.0
    """Sampling temperature in evaluation; 0 takes the most likely token."""
    metric: str = "reward"
    """Reported value: `reward`, or the name of a grader."""
    max_validation_tasks: Positive | None = None
    """Number of validation tasks measured during the run, from the first; null measures all."""
    patience: Positive | None = None
    """Number of measurements of the validation tasks without a better one after which the run ends. The result is then
    the policy that was measured best, not the last one. null trains to the last step."""
    best_metric: Literal["score", "loss"] = "score"
    """Selects the best measurement for `patience`: by `metric`, or by the loss on the answers of the validation tasks,
    which `learner=sft` measures."""
    independent_grader: str | None = None
    """A grader with weight 0 that judges what the reward stands for. The run reports it beside the reward, and warns if
    the reward rises and it does not."""
    arms: bool = False
    """Whether the policies before and after the run are also measured without passages. The run then ends with a table
    of four arms: base, base + retrieval, tuned, tuned + retrieval. Needs a store in `retrieval`."""
    guard: dict[str, Annotated[Number, Field(ge=0)]] = {}
    """Largest drop of the mean score of a family of `data.mixture` since before the run: `{gcd: 0.05}`."""
    guard_action: Literal["warn", "stop"] = "warn"
    """Reaction to a larger drop: warn, or end the run if the interval of the drop excludes 0."""
