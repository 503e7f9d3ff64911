"""IFEval: the final answer follows the instructions of its task, by the rules of the benchmark's published checkers.

graders:
  follows:
    use: ifeval                       # reads the data set's columns instruction_id_list and kwargs

The same instructions for every task:

graders:
  follows:
    use: ifeval
    instructions:
      - {id: "detectable_format:title"}
      - {id: "length_constraints:number_words", num_words: 100, relation: at least}

`graders.ifeval_checks` lists the 25 instructions and their keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from graders.ifeval_checks import instruction_problems, is_followed, language_detector
from rft.grading import Score, Status, Task, final_answer, reference

MAX_CHARS = 100_000
"""Longer answers follow no instruction."""


@dataclass(frozen=True, kw_only=True)
class IFEval:
    """Scores the share of the instructions that the final answer follows, 0 to 1.

    An answer without a letter or a digit follows no instruction. A task without instructions is skipped. Instructions
    reward form, not content: choose the weight accordingly, or use them in the gate of a `composite`.
    """

    deterministic: ClassVar[bool] = True

    instructions: tuple[dict[str, Any], ...] = ()
    """The instructions for all tasks; without them each task has its own."""
    id_column: str = "instruction_id_list"
    """The task's column with the list of identifiers."""
    kwargs_column: str = "kwargs"
    """The task's column with the arguments of each instruction: a list of objects, or its JSON text."""
    level: Literal["instruction", "prompt"] = "instruction"
    """`instruction`: the share of followed instructions. `prompt`: 1 if all are followed, otherwise 0."""

    def __post_init__(self) -> None:
        problems = [problem for name, keys in map(_split, self.instructions) for problem in _checked(name, keys)]
        if problems:
            raise ValueError("; ".join(problems))

    def warm_up(self) -> None:
        """Load the language detector."""
        language_detector()

    def grade(self, completion: str, task: Task) -> Score | None:
        """Check the instructions in order."""
        instructions = [_split(instruction) for instruction in self.instructions] or self._of_task(task)
        if not instructions:
            return None
        answer = final_answer(completion)
        if not any(map(str.isalnum, answer)):
            return Score(value=0.0, status=Status.NO_ANSWER)
        if len(answer) > MAX_CHARS:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=f"longer than {MAX_CHARS} characters")
        broken = [name for name, keys in instructions if not is_followed(name, keys, answer)]
        share = 1 - len(broken) / len(instructions)
        value = share if self.level == "instruction" else float(not broken)
        return Score(value=value, reason=f"not followed: {', '.join(broken)}" if broken else None)

    def _of_task(self, task: Task) -> list[tuple[str, Mapping[str, Any]]]:
        names, keys = (
            json.loads(column) if isinstance(column, str) else column
            for column in (reference(task, self.id_column), reference(task, self.kwargs_column))
        )
        if not isinstance(names, (list, tuple)) or not isinstance(keys, (list, tuple)) or len(names) != len(keys):
            raise ValueError(
                f"task {task.id}: {self.id_column} and {self.kwargs_column} must be two lists of the same length"
            )
        given = list(zip(names, keys, strict=True))
        if problems := [problem for name, keys in given for problem in _checked(name, keys)]:
            raise ValueError(f"task {task.id}: {'; '.join(problems)}")
        return [(name, keys or {}) for name, keys in given]


def _split(instruction: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    keys = dict(instruction)
    return keys.pop("id", ""), keys


def _checked(name: object, keys: object) -> list[str]:
    if keys is not None and not isinstance(keys, Mapping):
        return [f"{name}: {keys!r} is not an object"]
    return instruction_problems(name, keys or {})
