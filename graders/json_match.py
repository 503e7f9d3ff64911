"""JSON match: the fields of a JSON answer equal those of an object in a column of the task.

graders:
  fields:
    use: json_match
    column: answer
    fields: [name, address.city, total]   # all fields of the reference, if left out
    tolerance: 0.01

Further fields in the answer neither help nor harm.
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
    """The share of the fields that are right, 0 to 1.

    Types count: "1" is not 1, nor is true. A field that the answer lacks is wrong even where the reference is null. A
    task whose column is empty is skipped.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    column: str = "answer"
    """The task's column that holds the reference, an object or its JSON text."""
    fields: tuple[str, ...] = ()
    """The fields that are compared; a dot goes down into an object. None given: each of the reference's outermost."""
    tolerance: float = 0.0
    """Largest difference between two numbers."""
    ignore_case: bool = False
    """Whether `paris` equals `Paris`. Space around a text never counts."""

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance={self.tolerance} must be at least 0, and finite")
        if len(set(self.fields)) < len(self.fields):
            raise ValueError("a field is named twice")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare field by field."""
        expected = reference(task, self.column)
        if expected is None:
            return None
        expected = json.loads(expected) if isinstance(expected, str) else expected
        if not isinstance(expected, Mapping) or not expected:
            raise ValueError(f"the reference of task {task.id} is no object with fields: {expected!r}"[:300])
        paths = {field: field.split(".") for field in self.fields} or {key: [key] for key in expected}
        wanted = {field: _at(expected, path) for field, path in paths.items()}
        absent = [field for field, value in wanted.items() if value is _MISSING]
        if absent:
            raise ValueError(f"the reference of task {task.id} lacks the fields {', '.join(absent)}")
        if not final_answer(completion):
            return Score(value=0.0, status=Status.NO_ANSWER)
        try:
            answer = json_answer(completion)
        except ValueError as error:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=str(error))
        wrong = [field for field, value in wanted.items() if not self._equal(value, _at(answer, paths[field]))]
        reason = f"wrong: {', '.join(wrong)}" if wrong else None
        return Score(value=1 - len(wrong) / len(wanted), reason=reason)

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
    """Return what stands at a path of keys, or `_MISSING`."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return _MISSING
        value = value[key]
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
