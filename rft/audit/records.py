"""What a probe is, and what it finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rft.types import Grade, Task

if TYPE_CHECKING:
    from rft.audit.subject import Subject

MAX_EXAMPLES = 5
"""How many of the worst cases are shown."""
EXCERPT_CHARS = 400
"""Of each longer text, its beginning and its end."""


class Result(StrEnum):
    """How a probe ended."""

    FAILED = "failed"
    """The grader should not train anything as it is."""
    WARNED = "warned"
    """A person should look."""
    PASSED = "passed"
    """Nothing was found."""
    NOT_APPLICABLE = "not applicable"
    """The data or the grader leave nothing to probe."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a probe found.

    Example:
        Finding(Result.FAILED, said="3 of 30 were paid", examples=(...), figures={"paid": 3})
    """

    result: Result
    """How it ended."""
    said: str
    """The finding in a sentence; for a probe that is not applicable, why not."""
    examples: Sequence[Graded] = ()
    """The worst cases first."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Numbers for audit.json, and for the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to a grader."""

    name: str
    """What it is called in reports."""
    family: str
    """What it belongs to."""
    why: str
    """Why it matters, with the source."""
    how: str
    """What is done."""
    threshold: str
    """When it fails and when it warns."""
    remedy: str
    """What to do about a failure."""
    look: Callable[[Subject], Awaitable[Finding]]
    """Does it."""


def passed(said: str, **figures: Any) -> Finding:
    """Return the finding that nothing is wrong."""
    return Finding(result=Result.PASSED, said=said, figures=figures)


def failed(said: str, examples: Sequence[Graded] = (), **figures: Any) -> Finding:
    """Return the finding that the grader must not be trained with."""
    return Finding(result=Result.FAILED, said=said, examples=tuple(examples), figures=figures)


def warned(said: str, examples: Sequence[Graded] = (), **figures: Any) -> Finding:
    """Return the finding that a person should look."""
    return Finding(result=Result.WARNED, said=said, examples=tuple(examples), figures=figures)


def not_applicable(why: str) -> Finding:
    """Return the finding that there was nothing to probe."""
    return Finding(result=Result.NOT_APPLICABLE, said=why)


def excerpt(text: str, limit: int = EXCERPT_CHARS) -> str:
    """Shorten a text, keeping two thirds of what fits from its beginning and one third from its end."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]} ... ({len(text) - head - tail} characters left out) ... {text[-tail:]}"
