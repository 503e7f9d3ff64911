"""Length: a penalty for long completions, in tokens.

graders:
  brief:
    use: length
    free_tokens: 200
    max_tokens: 500
    weight: 0.2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Rollout


@dataclass(frozen=True, kw_only=True)
class Length:
    """Scores 0 up to `free_tokens`, then falls linearly to -1 at `max_tokens`, and -1 beyond.

    The end-of-sequence token counts as one token.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    free_tokens: int
    """Maximum length without a penalty, in tokens."""
    max_tokens: int
    """Minimum length with the full penalty, in tokens."""

    def __post_init__(self) -> None:
        if not 0 <= self.free_tokens < self.max_tokens:
            raise ValueError(
                f"free_tokens={self.free_tokens} must be at least 0 and less than max_tokens={self.max_tokens}"
            )

    def grade(self, rollout: Rollout) -> float:
        """Measure the completion."""
        excess = len(rollout.completion_ids) - self.free_tokens
        return max(-1.0, min(0.0, -excess / (self.max_tokens - self.free_tokens)))
