r"""Pattern: the completion matches a regular expression; also called `format`.

graders:
  format:
    use: pattern
    pattern: '(?s)<think>.+</think>\s*<answer>.+</answer>\s*'
    weight: 0.1
  correct:
    use: pattern
    pattern: 'Answer: (\w+)'
    mode: search
    column: answer
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from rft.grading import Score, Status, Task, final_answer, reference

MAX_CHARS = 200_000
"""Longer completions do not match: time grows with length, for some patterns quadratically."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Scores 1 if the completion, including its thinking, matches the pattern, otherwise 0.

    With a column, the pattern is searched in the final answer, without thinking, and its first group must equal the
    task's text in that column. A task with an empty column is skipped.
    """

    deterministic: ClassVar[bool] = True

    pattern: re.Pattern[str]
    """The regular expression (Python's). A dot does not match a line break, unless the pattern begins with `(?s)`."""
    mode: Literal["full", "search"] = "full"
    """`full`: the whole completion matches. `search`: any part matches; the first match counts."""
    column: str | None = None
    """The task's column that the captured text must equal."""

    def __post_init__(self) -> None:
        if self.column is not None and not self.pattern.groups:
            raise ValueError(f"the pattern {self.pattern.pattern!r} captures nothing to compare with '{self.column}'")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Match the completion."""
        expected = None if self.column is None else reference(task, self.column)
        if self.column is not None and expected is None:
            return None
        if len(completion) > MAX_CHARS:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=f"longer than {MAX_CHARS} characters")
        if self.mode == "full":
            match = self.pattern.fullmatch(completion)
        else:
            match = self.pattern.search(completion if self.column is None else final_answer(completion))
        if self.column is None:
            return Score(value=float(match is not None))
        if match is None or match[1] is None:
            return Score(value=0.0, status=Status.NO_ANSWER)
        return Score(value=float(match[1].strip() == str(expected).strip()), answer=match[1])
