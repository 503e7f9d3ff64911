"""Span F1: the answer repeats the text and marks its names in place, as in `[PER Ada Lovelace] ate an orange`.

graders:
  spans:
    use: rft.embedded.examples.ner.graders:SpanF1
    column: answer

A mark says where a name stands, so the same word may be a name once and none elsewhere, and no span can be given twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Score, Status, Task, final_answer, reference

MAX_CHARS = 20_000
"""A longer answer scores 0."""

_MARK = re.compile(r"\[([A-Z]+) ([^\[\]]+)\]")

Span = tuple[int, int, str]
"""First character, end, and label."""


@dataclass(frozen=True, kw_only=True)
class SpanF1:
    """Scores the F1 of the marked spans, 0 to 1: 2 x right / (marked + names of the reference).

    A span is right if its first character, its end and its label are those of the reference (CoNLL-2003's exact match).
    An answer whose text, without the marks, is not that of the reference scores 0. A task with an empty column is
    skipped. A reference without a name is an error, because a copy of its text would get the full score.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    column: str = "answer"
    """The task's column with the marked text."""

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the spans."""
        marked = reference(task, self.column)
        if marked is None:
            return None
        text, expected = read_marks(str(marked))
        if not expected:
            raise ValueError(f"the reference of task {task.id} marks no name: {marked!r}"[:300])
        answer = final_answer(completion)
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        if len(answer) > MAX_CHARS:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=f"longer than {MAX_CHARS} characters")
        given_text, given = read_marks(answer)
        if given_text != text:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, answer=answer[:200], reason="it changes the text")
        value = 2 * len(given & expected) / (len(given) + len(expected))
        return Score(value=value, answer=answer[:200])


def read_marks(marked: str) -> tuple[str, frozenset[Span]]:
    """Return the text without its marks, and the marked spans as places in that text.

    Example:
        read_marks("[ORG Orange] sells oranges") == ("Orange sells oranges", frozenset({(0, 6, "ORG")}))
    """
    parts: list[str] = []
    spans: set[Span] = set()
    length = end = 0
    for mark in _MARK.finditer(marked):
        before = marked[end : mark.start()]
        start = length + len(before)
        length, end = start + len(mark[2]), mark.end()
        parts += [before, mark[2]]
        spans.add((start, length, mark[1]))
    return "".join([*parts, marked[end:]]).strip(), frozenset(spans)
