"""The results of probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_EXAMPLES = 5
"""Number of the worst cases that a report shows."""
EXCERPT_CHARS = 400
"""Length of an excerpt in characters."""


class Result(StrEnum):
    """The result of a probe."""

    FAILED = "failed"
    """The grader, or the environment, should not be used for training."""
    WARNED = "warned"
    """A person should examine the examples."""
    INCONCLUSIVE = "inconclusive"
    """The grader failed on nearly all cases of the probe, so the probe could not find a weakness."""
    PASSED = "passed"
    """The probe found no weakness."""
    NOT_APPLICABLE = "not applicable"
    """The probe cannot examine these tasks or graders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of a probe, with its explanation.

    Example:
        Finding(Result.FAILED, said="3 of 30 were paid", examples=(...), figures={"paid": 3})
    """

    result: Result
    """The result."""
    message: str
    """The finding in one sentence; for a probe that is not applicable, the reason."""
    examples: Sequence[Any] = ()
    """The cases that show the finding, the worst first; of an environment, the episodes."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Numbers for audit.json."""


def passed(message: str, **figures: Any) -> Finding:
    """Return the finding that the probe found no weakness."""
    return Finding(result=Result.PASSED, message=message, figures=figures)


def failed(message: str, examples: Sequence[Any] = (), **figures: Any) -> Finding:
    """Return the finding that the grader, or the environment, should not be used for training."""
    return Finding(result=Result.FAILED, message=message, examples=tuple(examples), figures=figures)


def warned(message: str, examples: Sequence[Any] = (), **figures: Any) -> Finding:
    """Return the finding that a person should examine the examples."""
    return Finding(result=Result.WARNED, message=message, examples=tuple(examples), figures=figures)


def inconclusive(message: str, examples: Sequence[Any], **figures: Any) -> Finding:
    """Return the finding that the probe could not find a weakness, because the grader failed."""
    return Finding(result=Result.INCONCLUSIVE, message=message, examples=tuple(examples), figures=figures)


def not_applicable(why: str) -> Finding:
    """Return the finding that the probe does not apply."""
    return Finding(result=Result.NOT_APPLICABLE, message=why)


def excerpt(text: str, limit: int = EXCERPT_CHARS) -> str:
    """Shorten a text: two thirds of the limit come from its beginning, one third from its end."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]} ... ({len(text) - head - tail} characters omitted) ... {text[-tail:]}"
