"""Detects a missing training signal: warns if no step contains a difference in reward."""

from __future__ import annotations

from collections.abc import Sequence

from rft.types import GradedGroup


class SignalWatch:
    """Warns if the rewards within every group have been equal for many consecutive steps.

    Group-relative methods such as GRPO learn from differences between the completions of one task. Without differences,
    every advantage is zero, and so is the gradient.

    Args:
        patience_steps: Number of consecutive steps without signal before the warning.
    """

    def __init__(self, patience_steps: int = 10) -> None:
        self.patience_steps = patience_steps
        self._steps_without_signal = 0
        self._rewards: set[float] = set()
        self._has_warned = False

    def observe(self, groups: Sequence[GradedGroup]) -> str | None:
        """Observe the groups of one step.

        Returns:
            The warning, once after `patience_steps`; again only if the signal returned in between.
        """
        if any(group.is_informative for group in groups):
            self._steps_without_signal = 0
            self._rewards = set()
            self._has_warned = False
            return None
        self._steps_without_signal += 1
        self._rewards |= {reward for group in groups for reward in group.rewards if reward is not None}
        if self._has_warned or self._steps_without_signal < self.patience_steps:
            return None
        self._has_warned = True
        return self._warning()

    def _warning(self) -> str:
        """Return the observation, its consequence, the likely cause and the remedy."""
        steps = self._steps_without_signal
        if not self._rewards:
            return (
                f"no completion received a reward in the last {steps} steps, so training has no effect. Every "
                "completion was dropped: read the reasons in rollouts.jsonl and fix the grader"
            )
        if len(self._rewards) > 1:
            cause = (
                "The model solves each task always or never. Sample more completions of each task, raise the sampling "
                "temperature, or use tasks of medium difficulty"
            )
        elif (reward := next(iter(self._rewards))) <= 0:
            cause = (
                f"All rewards are {reward:g}: the tasks are too hard for this model, or the grader never rewards. "
                "Grade a known good answer by hand; then try easier tasks, more max_completion_tokens or partial credit"
            )
        elif reward >= 1:
            cause = (
                f"All rewards are {reward:g}: the tasks are too easy for this model, or the grader rewards everything. "
                "Grade a known bad answer by hand; then try harder tasks"
            )
        else:
            cause = (
                f"All rewards are {reward:g}: the grader does not distinguish completions. Grade a known good and a "
                "known bad answer by hand; the scores must differ"
            )
        return (
            f"in the last {steps} steps, the rewards of each group were equal. All group-relative advantages are then "
            f"zero, so training has no effect. {cause}"
        )
