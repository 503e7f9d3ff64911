"""A completion that is put before the graders, and what they made of it."""

from __future__ import annotations

from dataclasses import dataclass

from rft.types import Grade, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A completion that is put before the graders.

    Example:
        Case(task=task, completion="The answer is 4.", note="sentence")
    """

    task: Task
    """What it pretends to answer."""
    completion: str
    """The text."""
    note: str
    """How it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A case and what the graders said.

    Example:
        Graded(case=Case(...), grade=Grade(...))
    """

    case: Case
    """The case."""
    grade: Grade
    """What the panel made of it."""
