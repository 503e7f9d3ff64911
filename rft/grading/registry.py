"""From a grader's entry in the configuration to a grader that is ready to call, or to everything that is wrong with it.

An entry is a mapping: `use` names the grader, `weight` and `timeout_s` are for the panel, all else are its options.

    {"use": "numeric", "weight": 1.0, "tolerance": 0.01}
    {"use": "my_graders.py:concise", "weight": 0.2}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rft.errors import ConfigError
from rft.grading.binding import bind
from rft.grading.contract import LoadedGrader, is_per_group
from rft.grading.loading import BUILT_IN, find_target
from rft.grading.options import fill_in

DEFAULT_WEIGHT = 1.0
DEFAULT_TIMEOUT_S = 30.0


def load_grader(name: str, spec: Mapping[str, Any]) -> LoadedGrader:
    """Make a grader from its entry in the configuration.

    Args:
        name: Its key under `graders`.
        spec: Its entry.

    Raises:
        ConfigError: Something is wrong with the entry; it holds everything that is.
    """
    grader, problems = _load(name, spec)
    if grader is None:
        raise ConfigError("graders", problems)
    return grader


def grader_problems(name: str, spec: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with a grader's entry in the configuration, each with its key and in words."""
    return _load(name, spec)[1]


def _load(name: str, spec: Any) -> tuple[LoadedGrader | None, list[str]]:
    """Return the grader, or None and what is wrong; exactly one of the two is there."""
    key = f"graders.{name}"
    if not isinstance(spec, Mapping):
        return None, [f"{key}: {spec!r} is not a mapping; write for example {{use: exact, weight: 1.0}}"]
    options = dict(spec)
    use, weight = options.pop("use", None), options.pop("weight", DEFAULT_WEIGHT)
    timeout_s = options.pop("timeout_s", DEFAULT_TIMEOUT_S)
    problems: list[str] = []
    if not _is_finite(weight):
        problems.append(f"{key}.weight: {weight!r} is not a finite number; 0 means: only monitored")
    if not _is_finite(timeout_s) or timeout_s <= 0:
        problems.append(f"{key}.timeout_s: {timeout_s!r} is not a number of seconds above 0")
    if not isinstance(use, str) or not use:
        problems.append(f"{key}.use: missing; name one of {', '.join(BUILT_IN)}, or path/to/file.py:function")
        return None, problems
    try:
        target = find_target(use)
    except ValueError as error:
        return None, [*problems, f"{key}.use: {error}"]
    call, option_problems = fill_in(target, options)
    problems += [f"{key}{problem}" for problem in option_problems]
    if call is None or problems:
        return None, problems
    grades_groups = is_per_group(target.object)
    takes, unfilled = bind(call, per_group=grades_groups)
    if unfilled:
        return None, [f"{key}.use: {use}: {problem}" for problem in unfilled]
    grader = LoadedGrader(
        name=name,
        weight=float(weight),
        timeout_s=float(timeout_s),
        call=call,
        takes=takes,
        per_group=grades_groups,
        use=use,
        file=target.file,
        sha256=target.sha256,
    )
    return grader, []


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
