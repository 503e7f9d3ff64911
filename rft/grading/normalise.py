"""Converts results and exceptions of graders to scores. An invalid result is a grader error, never a zero."""

from __future__ import annotations

import math
import numbers
import os
import reprlib
import traceback
from dataclasses import replace
from decimal import Decimal
from typing import Any

from rft.grading.loading.importing import ImportEnded
from rft.types import Score, Status

MAX_REASON_CHARS = 500
"""Maximum length of an error message, which may quote a whole completion."""

MAX_TRACEBACK_FRAMES = 20
MAX_TRACEBACK_CHARS = 20_000

EXPECTED = "a grader returns a finite number, a bool, a Score, or None to decline"


def to_score(result: Any, expected: str = EXPECTED) -> Score:
    """Convert a grader's result for one completion to a score. Never raises.

    Numbers are Python's (bool, int, float, Decimal, Fraction) and the scalars of numpy and torch.

    Args:
        result: The result.
        expected: What may be returned, for the reason of a result that is no score.
    """
    if result is None:
        return Score(value=None, status=Status.SKIPPED)
    if isinstance(result, Score):
        reason, answer = (None if text is None else str(text) for text in (result.reason, result.answer))
        value = None if result.value is None else float(result.value)
        return replace(result, value=value, reason=reason, answer=answer)
    # Python does not count numpy's bool and torch's tensors as numbers; scalars have an empty shape and an `item`
    # method.
    number = result.item() if getattr(result, "shape", None) == () else result
    try:
        value = float(number) if isinstance(number, (numbers.Real, Decimal)) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    return Score(value=value) if math.isfinite(value) else _nonsense(result, expected)


def to_scores(result: Any, count: int) -> list[Score]:
    """Convert a grader's result for a group of `count` completions to their scores. Never raises."""
    if result is None:
        return [to_score(None)] * count
    if not isinstance(result, (list, tuple)):
        return [_nonsense(result, f"a grader of groups returns a list of {count}")] * count
    if len(result) != count:
        return [_nonsense(result, f"got {len(result)} results for {count} completions")] * count
    return [to_score(single) for single in result]


def outcome(result: Any, *, count: int, per_group: bool) -> list[Score]:
    """Convert a grader's result to the scores of the `count` completions of the call."""
    return to_scores(result, count) if per_group else [to_score(result)]


def failed(status: Status, reason: str, count: int, *, seconds: float = 0.0) -> list[Score]:
    """Return the scores of `count` completions on which a grader failed."""
    return [Score(value=None, status=status, reason=reason, seconds=seconds)] * count


def within_range(score: Score, limits: tuple[float, float], *, clip: bool) -> Score:
    """Check a score against the declared range of its grader.

    A score outside the range is a grader error. With `clip` it moves to the nearer end, and its reason says so.
    """
    low, high = limits
    if score.value is None or low <= score.value <= high:
        return score
    if not clip:
        reason = (
            f"returned {score.value:g}, which is outside its range [{low:g}, {high:g}]; correct the grader or its "
            "range, or set clip: true"
        )
        return Score(value=None, status=Status.GRADER_ERROR, reason=reason)
    clipped = f"clipped from {score.value:g}"
    reason = f"{score.reason}; {clipped}" if score.reason else clipped
    return replace(score, value=min(high, max(low, score.value)), reason=reason)


def describe_error(error: BaseException, file: str) -> str:
    """Describe an exception and its place, as `ValueError: no digits (my_graders.py:12)`.

    Args:
        error: The exception.
        file: The grader's file. Of the lines in the traceback, the innermost one in this file is named.
    """
    # extract_tb would read the source of every line: a thousand lines after an endless recursion.
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    place = next((place for place in reversed(places) if place[0] == file), places[-1] if places else None)
    where = f" ({shown_path(place[0])}:{place[1]})" if place else ""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r}){where}"
    if isinstance(error, ImportEnded):
        return f"{error}{where}"
    try:
        message = str(error)[:MAX_REASON_CHARS]
    except Exception:  # the grader's own exception class may fail here
        message = "(its message cannot be shown)"
    return f"{type(error).__name__}{': ' if message else ''}{message}{where}"


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception as Python prints it; the innermost frames of a long one."""
    entries = []
    entry = error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    # The limit of `format_exception` alone would visit all frames first: a thousand after an endless recursion.
    innermost = entries[-MAX_TRACEBACK_FRAMES] if len(entries) > MAX_TRACEBACK_FRAMES else error.__traceback__
    lines = traceback.format_exception(type(error), error, innermost, limit=-MAX_TRACEBACK_FRAMES)
    return "".join(lines)[-MAX_TRACEBACK_CHARS:]


def shown_path(file: str) -> str:
    """Shorten a path for messages: relative to the working directory if it lies inside."""
    inside = os.path.relpath(file)
    return file if inside.startswith(os.pardir) else inside


def _nonsense(result: Any, expected: str) -> Score:
    reason = f"returned the {type(result).__name__} {reprlib.repr(result)}; {expected}"
    return Score(value=None, status=Status.GRADER_ERROR, reason=reason)
