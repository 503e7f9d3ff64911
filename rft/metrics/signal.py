"""Watches whether there is anything to learn from: a run without signal says so instead of running on in silence."""

from __future__ import annotations

from collections.abc import Sequence

from rft.types import GradedGroup


class SignalWatch:
    """Warns when the rewards within every group have been equal for many steps in a row.

    A group-relative method (GRPO and its kin) learns from the differences between the completions of one task. Without
    a difference every advantage is zero, and so is the gradient.

    Args:
        patience_steps: How many steps in a row without signal lead to the warning.
    """

    def __init__(self, patience_steps: int = 10) -> None:
        self.patience_steps = patience_steps
        self._steps_without_signal = 0
        self._rewards: set[float] = set()
        self._has_warned = False

    def observe(self, groups: Sequence[GradedGroup]) -> str | None:
        """Take in the groups of one step.

        Returns:
            The warning, once, when patience has run out; again only after signal came back and vanished again.
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
        """What is seen, why it matters, what may be the cause, what to do."""
        steps = self._steps_without_signal
        if not self._rewards:
            return (
                f"no completion got a reward in the last {steps} steps, so nothing is learned. Every completion was "
                "dropped: read the reasons in rollouts.jsonl and mend the grader"
            )
        if len(self._rewards) > 1:
            cause = (
                "Each task is always solved or never. Sample more completions of each task, raise the sampling "
                "temperature, or use tasks of medium difficulty"
            )
        elif (reward := next(iter(self._rewards))) <= 0:
            cause = (
                f"All rewards are {reward:g}: the tasks are too hard for this model, or the grader never pays. Grade a "
                "known good answer by hand; then try easier tasks, more max_completion_tokens or partial credit"
            )
        elif reward >= 1:
            cause = (
                f"All rewards are {reward:g}: the tasks are too easy for this model, or the grader pays for anything. "
                "Grade a known bad answer by hand; then try harder tasks"
            )
        else:
            cause = (
                f"All rewards are {reward:g}: the grader does not tell completions apart. Grade a known good and a "
                "known bad answer by hand; they must differ"
            )
        return (
            f"in the last {steps} steps every group's rewards were all equal. Group-relative advantages are then all "
            f"zero, so nothing is learned. {cause}"
        )
