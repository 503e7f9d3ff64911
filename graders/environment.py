"""Environment: the score that the environment of an episode returned.

graders:
  environment:
    use: environment
    weight: 0.5

rft adds this grader to the graders of a run with `environment.use`, unless the run names one itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Rollout, Score


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The score of the environment; declines if the environment returned None.

    If the environment failed, the episode has no reward, whatever the weight of this score and the other graders say.
    """

    in_process: ClassVar[bool] = True

    def grade(self, rollout: Rollout) -> Score | None:
        """Return the environment's score."""
        return rollout.environment
