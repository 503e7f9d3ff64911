"""What a probe is, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rft.auditing.cases import Graded

if TYPE_CHECKING:
    pass

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
