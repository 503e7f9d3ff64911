"""Exact: the final answer is the very text in a column of the task.

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
    """1 where the final answer equals the reference, 0 where it does not; space around either does not count, nor
    does how an accented letter is encoded.

    A task whose column is empty is skipped; one whose reference is an empty text is an error, as no answer equals it.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    column: str = "answer"
    """The task's column that holds the reference."""
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
