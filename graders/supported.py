"""Supported: every number, date and name of the final answer occurs in the passages.

graders:
  main:
    use: composite
    how: grounded            # a fact of the passages counts only in a right answer
    of:
      correct: {use: contains, column: answer}
      supported: {use: supported}

Forms do not count: 1,000 is 1000, seven is 7, 1 March 2026 is 2026-03-01. A name is a word with a capital letter inside
a sentence, so the grader suits languages such as English, not German.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graders.facts import facts_of, is_known_date
from rft.grading import Score, Task
from rft.grading.cited_answers import read_answer, words_of


@dataclass(frozen=True, kw_only=True)
class Supported:
    """Scores 1 if all facts of the answer occur in the passages, otherwise 0. The prompt may support names, too.

    An answer without numbers, dates and names scores 1. Where the search missed the passages that the row names as
    relevant, all answers score 0.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    relevant: str = "relevant"
    """The task's column with the ids of the passages that hold the answer; it may be missing."""
    max_copied_words: int = 20
    """Words in a row that an answer may take from a passage; one that pastes more scores 0."""

    def grade(self, completion: str, task: Task) -> Score:
        """Look each fact up."""
        answer = read_answer(completion, task, self.relevant)
        if (refusal := answer.refusal(self.max_copied_words)) is not None:
            return refusal
        if answer.sources.were_missed:
            return Score(value=0.0, answer=answer.text[:200], reason="no relevant passage is shown")
        source = "\n".join(answer.sources.texts.values())
        said, known = facts_of(answer.bare), facts_of(source, is_source=True)
        words = {*words_of(source), *words_of(_prompt(task))}
        missing = sorted(said.numbers - known.numbers)
        missing += [_shown(date) for date in said.dates if not is_known_date(date, known.dates)]
        missing += [name for name in said.names if name.casefold() not in words]
        reason = f"not in the passages: {', '.join(dict.fromkeys(missing))[:200]}" if missing else None
        return Score(value=float(not missing), answer=answer.text[:200], reason=reason)


def _prompt(task: Task) -> str:
    content = task.messages[-1].get("content")
    return content if isinstance(content, str) else ""


def _shown(date: tuple[str | None, int, str | None]) -> str:
    year, month, day = date
    return "-".join(filter(None, (year, f"{month:02}", day)))
