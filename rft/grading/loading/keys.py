"""The keys of a grader's entry that the panel reads, for any grader; all other keys are options of the grader."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def take_keys(options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take the panel's keys out of an entry.

    Args:
        options: The entry; the keys are removed from it.

    Returns:
        Each key's value or default, and the problems, each beginning with `.key: ...`.
    """
    values = {name: options.pop(name, key.default) for name, key in KEYS.items()}
    problems = [
        f".{name}: {values[name]!r} is not {key.allowed}"
        for name, key in KEYS.items()
        if not key.is_valid(values[name])
    ]
    if not problems and values["clip"] and values["range"] is None:
        problems.append(".clip: without a range there is no limit to clip to; add a range, as range: [0, 1]")
    if not problems:
        values["weight"], values["timeout_s"] = float(values["weight"]), float(values["timeout_s"])
        values["range"] = values["range"] and tuple(float(limit) for limit in values["range"])
    return values, problems


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_range(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_finite, value)) and value[0] < value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryKey:
    """A key of a grader's entry.

    Example:
        EntryKey(default=0, is_valid=_is_count, allowed="a number, 0 or more", type="int >= 0", meaning="Repeats.")
    """

    default: Any
    """The value if the entry does not set the key."""
    is_valid: Callable[[Any], bool]
    """Whether a value is valid."""
    allowed: str
    """The valid values, as the end of a sentence."""
    type: str
    """The valid values, as the help shows them."""
    meaning: str
    """The effect of the key."""


KEYS: Mapping[str, EntryKey] = {
    "weight": EntryKey(
        default=1.0,
        is_valid=_is_finite,
        allowed="a finite number; 0 means: only monitored",
        type="float",
        meaning="Factor of the score in the reward, which is the weighted sum of the scores. With 0 the grader is "
        "only monitored.",
    ),
    "timeout_s": EntryKey(
        default=30.0,
        is_valid=lambda value: _is_finite(value) and value > 0,
        allowed="a number of seconds above 0",
        type="float > 0",
        meaning="Deadline of one call in seconds. A completion with a late score gets no reward, not a reward of 0.",
    ),
    "retries": EntryKey(
        default=0,
        is_valid=_is_count,
        allowed="a number of retries, 0 or more",
        type="int >= 0",
        meaning="Maximum number of repetitions of a call after an error or a timeout.",
    ),
    "max_concurrency": EntryKey(
        default=None,
        is_valid=lambda value: value is None or (_is_count(value) and value > 0),
        allowed="a number of calls at a time, 1 or more, or null",
        type="int >= 1 or null",
        meaning="Maximum number of concurrent calls of this grader; null uses only the limit of all graders.",
    ),
    "range": EntryKey(
        default=None,
        is_valid=lambda value: value is None or _is_range(value),
        allowed="a lowest and a highest score, as [0, 1], or null",
        type="[low,high] or null",
        meaning="The lowest and the highest score. A score outside is a grader error, unless `clip` is true.",
    ),
    "clip": EntryKey(
        default=False,
        is_valid=lambda value: isinstance(value, bool),
        allowed="true or false",
        type="bool",
        meaning="Whether a score outside `range` is moved to the nearer end.",
    ),
    "cache": EntryKey(
        default=None,
        is_valid=lambda value: value is None or isinstance(value, bool),
        allowed="true, false or null",
        type="bool or null",
        meaning="Whether `grading.cache_folder` keeps the scores; null follows the grader's declaration.",
    ),
}
"""The keys that every grader's entry may have."""
