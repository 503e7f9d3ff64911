"""Exact: the final answer equals the text in a column of the task.

graders:
  correct:
    use: exact
    column: answer
    ignore_case: true
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Score, Status, Task, final_answer, reference


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Scores 1 if the final answer equals the reference, otherwise 0; surrounding whitespace and the encoding of
    accented letters are ignored.

    A task with an empty column is skipped. A reference that is an empty text is an error, because no answer equals it.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    column: str = "answer"
    """The task's column with the reference."""
    ignore_case: bool = False
    """Whether `Paris` equals `paris`."""

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the answer with the reference."""
        expected = reference(task, self.column)
        if expected is None:
            return None
        if not str(expected).strip():
            raise ValueError(f"the reference of task {task.id} is an empty text")
        answer = final_answer(completion)
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        return Score(value=float(self._key(answer) == self._key(str(expected))), answer=answer)

    def _key(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text.strip())
        return text.casefold() if self.ignore_case else text
