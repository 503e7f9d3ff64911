"""The keys of a grader's entry that are for the panel, whatever the grader; all others are the grader's options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any


def take_keys(options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take the panel's keys out of an entry.

    Args:
        options: The entry; what is left in it afterwards is the grader's.

    Returns:
        Each key's value, its default where the entry is silent; and what is wrong, each beginning with `.key: ...`.
    """
    values = {name: options.pop(name, default) for name, (default, _, _) in KEYS.items()}
    problems = [
        f".{name}: {values[name]!r} is not {allowed}"
        for name, (_, is_valid, allowed) in KEYS.items()
        if not is_valid(values[name])
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


KEYS: Mapping[str, tuple[Any, Callable[[Any], bool], str]] = {
    "weight": (1.0, _is_finite, "a finite number; 0 means: only monitored"),
    "timeout_s": (30.0, lambda value: _is_finite(value) and value > 0, "a number of seconds above 0"),
    "retries": (0, _is_count, "a number of retries, 0 or more"),
    "max_concurrency": (
        None,
        lambda value: value is None or (_is_count(value) and value > 0),
        "a number of calls at a time, 1 or more, or null",
    ),
    "range": (
        None,
        lambda value: value is None or _is_range(value),
        "a lowest and a highest score, as [0, 1], or null",
    ),
    "clip": (False, lambda value: isinstance(value, bool), "true or false"),
    "cache": (None, lambda value: value is None or isinstance(value, bool), "true, false or null"),
}
"""Default, check, and what is allowed, in words. `cache: null` leaves it to the grader's own declaration."""
