"""`feasibility`: samples of training tasks that tell, before a run, whether it is worth starting."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rft.config.fields import Number, Positive, Section, Whole

MIN_COMPLETIONS = 16
"""Completions of a task without `feasibility.completions_per_task`, if a group is not larger."""


def _on_or_off(value: Any) -> Any:
    """Return `off` for false, since YAML reads `off` as false."""
    return "off" if value is False else value


class FeasibilityConfig(Section):
    """Whether a run is worth starting, from samples of training tasks; also as `feasibility=refuse`."""

    mode: Annotated[Literal["refuse", "warn", "off"], BeforeValidator(_on_or_off)] = "off"
    """Before the first step of a run: `refuse` ends the run if the verdict is no-go, `warn` only says so, `off` samples
    nothing. `rft feasibility` needs none of them."""
    max_tasks: Positive = 160
    """Number of training tasks that are sampled; at least those of a step."""
    completions_per_task: Annotated[Whole, Field(ge=2)] | None = None
    """Completions of each of them; null takes 16, or those of a group if they are more."""
    min_difference: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Difference that the held-out tasks should be able to show, as a part of the score's range."""
    price_per_hour: Annotated[Number, Field(ge=0)] | None = None
    """Price of an hour of this machine, in any currency; null computes no cost."""
    out: str | None = None
    """A `.json` file for the result, besides feasibility.json in the run folder; also as `out=`. It must not exist."""

    def num_completions(self, group_size: int) -> int:
        """Return the completions of each task, for groups of a run."""
        return self.completions_per_task or max(MIN_COMPLETIONS, group_size)
