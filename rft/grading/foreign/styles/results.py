"""Unwraps the results of reward functions to a number, a `Score`, or None.

Invalid results, such as NaN, a text or a list of the wrong length, stay unchanged; `rft.grading.normalise` rejects
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rft.types import Score, Status

KEYS = ("reward", "score", "rewards", "aggregate_reward_score")
"""Keys of the value in a mapping; the first present key counts."""

INSPECT_VALUES: Mapping[str, float] = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""inspect_ai's letters: correct, partial, incorrect, no answer."""
INSPECT_FAULTS = ("grader_failed", "scoring_failed")
"""inspect_ai's reasons for a fault of the scorer."""

MAX_REASON_CHARS = 500


def single(result: Any) -> Any:
    """Unwrap a result for one completion.

    Unwraps mappings with one of `KEYS`, pairs of a score and details, lists with one element, and objects with a
    `score`, such as eval-protocol's `EvaluateResult`. `is_score_valid=False` gives no score.
    """
    if isinstance(result, Mapping):
        return _from_mapping(result)
    if isinstance(result, tuple) and len(result) == 2 and (result[1] is None or isinstance(result[1], (str, Mapping))):
        return single(result[0])
    if isinstance(result, (list, tuple)) and len(result) == 1:
        return single(result[0])
    if hasattr(result, "score") and not isinstance(result, type):
        fields = ("score", "is_score_valid", "reason", "error")
        return _from_mapping({name: getattr(result, name) for name in fields if hasattr(result, name)})
    return result


def group(result: Any) -> Any:
    """Unwrap a result for a group: a list, or a one-dimensional array or tensor, also inside a mapping or a pair."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
        return group(result[0])
    if isinstance(result, Mapping):
        key = _key(result)
        return result if key is None else group(result[key])
    if len(getattr(result, "shape", ())) == 1:
        result = result.tolist()
    return [single(item) for item in result] if isinstance(result, (list, tuple)) else result


def inspect_score(result: Any) -> Any:
    """Unwrap inspect_ai's `Score`: letters have values; NaN means that the sample was not scored."""
    value = getattr(result, "value", result)
    reason = getattr(result, "reason", None)
    explanation = getattr(result, "explanation", None) or reason
    explanation = None if explanation is None else str(explanation)[:MAX_REASON_CHARS]
    answer = getattr(result, "answer", None)
    if isinstance(value, str) and value in INSPECT_VALUES:
        status = Status.NO_ANSWER if value == "N" else Status.OK
        return Score(value=INSPECT_VALUES[value], status=status, reason=explanation, answer=answer)
    if isinstance(value, float) and math.isnan(value):
        status = Status.GRADER_ERROR if reason in INSPECT_FAULTS else Status.SKIPPED
        return Score(value=None, status=status, reason=explanation)
    if isinstance(value, (int, float)) and math.isfinite(value):
        return Score(value=float(value), reason=explanation, answer=answer)
    return value


def keyed_sum(result: Any) -> Any:
    """Unwrap verifiers v1's result: a mapping of rewards by name, which are summed."""
    if isinstance(result, Mapping) and result and all(isinstance(value, (int, float)) for value in result.values()):
        return math.fsum(result.values())
    return result


def clipped(result: Any) -> Any:
    """Clip a finite number to [-1, 1], as Google does."""
    number = result.item() if getattr(result, "shape", None) == () else result
    if isinstance(number, (int, float)) and math.isfinite(number):
        return max(-1.0, min(1.0, float(number)))
    return result


def _from_mapping(result: Mapping[str, Any]) -> Any:
    key = _key(result)
    if key is None:
        return result
    error = result.get("error")
    reason = error or result.get("reason")
    reason = str(reason)[:MAX_REASON_CHARS] if reason else None
    if result.get("is_score_valid", True) is False:
        status = Status.GRADER_ERROR if error else Status.SKIPPED
        return Score(value=None, status=status, reason=reason or "the function says that its score is not valid")
    value = single(result[key])
    if reason and isinstance(value, (int, float)) and math.isfinite(value):
        return Score(value=float(value), reason=reason)
    return value


def _key(result: Mapping[str, Any]) -> str | None:
    return next((key for key in KEYS if key in result), None)
