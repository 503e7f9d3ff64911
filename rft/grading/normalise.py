"""From whatever a grader returned or raised to a `Score`. Nonsense becomes a grader error, never a zero."""

from __future__ import annotations

import math
import numbers
import os
import reprlib
import traceback
from dataclasses import replace
from decimal import Decimal
from typing import Any

from rft.types import Score, Status

MAX_REASON_CHARS = 500
"""A grader's error message may quote a whole completion; the log need not."""

EXPECTED = "a grader returns a finite number or a bool, a Score, or None to decline"


def to_score(result: Any) -> Score:
    """Turn what a grader returned for one completion into a score. Never raises.

    Numbers are Python's (bool, int, float, Decimal, Fraction) and the scalars of numpy and torch.
    """
    if result is None:
        return Score(value=None, status=Status.SKIPPED)
    if isinstance(result, Score):
        return result if result.value is None else replace(result, value=float(result.value))
    # Numpy's bool and torch's tensors are no numbers to Python; a scalar's shape is empty and its item() is one.
    number = result.item() if getattr(result, "shape", None) == () else result
    try:
        value = float(number) if isinstance(number, (numbers.Real, Decimal)) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    return Score(value=value) if math.isfinite(value) else _nonsense(result, EXPECTED)


def to_scores(result: Any, count: int) -> list[Score]:
    """Turn what a grader returned for a group of `count` completions into one score for each. Never raises."""
    if result is None:
        return [to_score(None)] * count
    if not isinstance(result, (list, tuple)):
        return [_nonsense(result, f"a grader of groups returns a list of {count}")] * count
    if len(result) != count:
        return [_nonsense(result, f"that is {len(result)} results for {count} completions")] * count
    return [to_score(one) for one in result]


def describe_error(error: BaseException, file: str) -> str:
    """Say what was raised and where, as `ValueError: no digits (my_graders.py:12)`.

    Args:
        error: What was raised.
        file: The grader's file: of the lines that the error passed through, the innermost in this file is named.
    """
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1] if frames else None)
    where = f" ({shown_path(frame.filename)}:{frame.lineno})" if frame else ""
    return f"{type(error).__name__}: {str(error)[:MAX_REASON_CHARS]}{where}"


def shown_path(file: str) -> str:
    """Shorten a path for messages: relative to the working directory where it lies below it."""
    inside = os.path.relpath(file)
    return file if inside.startswith(os.pardir) else inside


def _nonsense(result: Any, expected: str) -> Score:
    reason = f"returned the {type(result).__name__} {reprlib.repr(result)}; {expected}"
    return Score(value=None, status=Status.GRADER_ERROR, reason=reason)
