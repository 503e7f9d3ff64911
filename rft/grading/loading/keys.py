"""The keys of a grader's entry that are for the panel, whatever the grader; all others are the grader's options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


def take_keys(options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take the panel's keys out of an entry.

    Args:
        options: The entry; what is left in it afterwards is the grader's.

    Returns:
        Each key's value, its default where the entry is silent; and what is wrong, each beginning with `.key: ...`.
    """
    values = {name: options.pop(name, key.default) for name, key in KEYS.items()}
    problems = [
        f".{name}: {values[name]!r} is not {key.allowed}"
        for name, key in KEYS.items()
        if not key.is_valid(values[name])
    ]
    if not problems and values["clip"] and values["range"] is None:
        problems.append(".clip: there is nothing to clip to; give the range as well, as range: [0, 1]")
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
    """Where the entry is silent."""
    is_valid: Callable[[Any], bool]
    """Whether a value may be given."""
    allowed: str
    """What may be given, in words that end a sentence."""
    type: str
    """The same, as the help shows it."""
    meaning: str
    """What the key does."""


KEYS: Mapping[str, EntryKey] = {
    "weight": EntryKey(
        default=1.0,
        is_valid=_is_finite,
        allowed="a finite number; 0 means: only monitored",
        type="float",
        meaning="The reward is the sum of the scores, each times its weight. With 0 the grader is only monitored.",
    ),
    "timeout_s": EntryKey(
        default=30.0,
        is_valid=lambda value: _is_finite(value) and value > 0,
        allowed="a number of seconds above 0",
        type="float > 0",
        meaning="Deadline for one score. A completion whose score is late has no reward; it does not count as 0.",
    ),
    "retries": EntryKey(
        default=0,
        is_valid=_is_count,
        allowed="a number of retries, 0 or more",
        type="int >= 0",
        meaning="How many times a call is repeated after an error or a timeout.",
    ),
    "max_concurrency": EntryKey(
        default=None,
        is_valid=lambda value: value is None or (_is_count(value) and value > 0),
        allowed="a number of calls at a time, 1 or more, or null",
        type="int >= 1 or null",
        meaning="Calls of this grader at the same time; null sets no limit of its own.",
    ),
    "range": EntryKey(
        default=None,
        is_valid=lambda value: value is None or _is_range(value),
        allowed="a lowest and a highest score, as [0, 1], or null",
        type="[low,high] or null",
        meaning="The lowest and the highest score. A score outside is an error of the grader, unless `clip` is true.",
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
        meaning="Whether scores are kept in `grading.cache_folder`; null follows the grader's own declaration.",
    ),
}
"""The keys that every grader's entry may have."""
