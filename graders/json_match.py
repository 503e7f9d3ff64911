"""JSON match: the fields of a JSON answer equal those of an object in a column of the task.

graders:
  fields:
    use: json_match
    column: answer
    fields: [name, address.city, total]   # default: all fields of the reference
    tolerance: 0.01

Additional fields in the answer are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.answers import json_answer

_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class JsonMatch:
    """Scores the share of the right fields, 0 to 1.

    Types count: neither "1" nor true equals 1. A missing field is wrong even if the reference is null. A task with an
    empty column is skipped.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    column: str = "answer"
    """The task's column with the reference, an object or its JSON text."""
    fields: tuple[str, ...] = ()
    """The compared fields; a dot enters a nested object. None compares all top-level fields of the reference."""
    tolerance: float = 0.0
    """Maximum difference between two numbers."""
    ignore_case: bool = False
    """Whether `paris` equals `Paris`. Whitespace around a text is ignored."""

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance={self.tolerance} must be at least 0 and finite")
        if len(set(self.fields)) < len(self.fields):
            raise ValueError("fields repeats a field")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the fields."""
        expected = reference(task, self.column)
        if expected is None:
            return None
        expected = json.loads(expected) if isinstance(expected, str) else expected
        if not isinstance(expected, Mapping) or not expected:
            raise ValueError(f"the reference of task {task.id} is not an object with fields: {expected!r}"[:300])
        paths = {field: field.split(".") for field in self.fields} or {key: [key] for key in expected}
        expected_values = {field: _at(expected, path) for field, path in paths.items()}
        absent = [field for field, value in expected_values.items() if value is _MISSING]
        if absent:
            raise ValueError(f"the reference of task {task.id} lacks the fields {', '.join(absent)}")
        if not final_answer(completion):
            return Score(value=0.0, status=Status.NO_ANSWER)
        try:
            answer = json_answer(completion)
        except ValueError as error:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=str(error))
        wrong = [field for field, value in expected_values.items() if not self._equal(value, _at(answer, paths[field]))]
        reason = f"wrong: {', '.join(wrong)}" if wrong else None
        return Score(value=1 - len(wrong) / len(expected_values), reason=reason)

    def _equal(self, expected: Any, given: Any) -> bool:
        if isinstance(expected, Mapping) and isinstance(given, Mapping):
            return expected.keys() == given.keys() and all(self._equal(expected[key], given[key]) for key in expected)
        if isinstance(expected, (list, tuple)) and isinstance(given, (list, tuple)):
            same_length = len(expected) == len(given)
            return same_length and all(map(self._equal, expected, given))
        if isinstance(expected, str) and isinstance(given, str):
            texts = (expected.strip(), given.strip())
            return texts[0] == texts[1] or (self.ignore_case and texts[0].casefold() == texts[1].casefold())
        if _is_number(expected) and _is_number(given):
            return abs(Fraction(str(expected)) - Fraction(str(given))) <= Fraction(str(self.tolerance))
        return type(expected) is type(given) and expected == given


def _at(value: Any, path: list[str]) -> Any:
    """Return the value at a path of keys, or `_MISSING`."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return _MISSING
        value = value[key]
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
