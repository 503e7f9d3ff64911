"""Completions that an audit has graded, before and after grading."""

from __future__ import annotations

from dataclasses import dataclass

from rft.types import Grade, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A completion for the graders.

    Example:
        Case(task=task, completion="The answer is 4.", note="sentence")
    """

    task: Task
    """The task that the completion answers."""
    completion: str
    """The completion's text."""
    note: str
    """How the audit made the completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedCase:
    """A case with its grade.

    Example:
        GradedCase(case=Case(...), grade=Grade(...))
    """

    case: Case
    """The case."""
    grade: Grade
    """The panel's grade of the completion."""
