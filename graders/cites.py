"""Cites: the final answer cites the passages that hold the answer, and no others.

graders:
  main:
    use: composite
    how: grounded            # citations count only under a right answer
    of:
      correct: {use: contains, column: answer}
      cites: {use: cites}

A citation is the id of a passage in brackets, `[p3]` or `[p3, p7]`. The row names the right ones in `relevant`. An id
that is not shown is a wrong citation, and so is one that only looks like an id that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Score, Task
from rft.grading.cited_answers import read_answer


@dataclass(frozen=True, kw_only=True)
class Cites:
    """Scores the harmonic mean of precision and recall (F1) of the citations, 0 to 1.

    Precision is the share of the citations that are relevant, recall the share of the relevant passages that are cited.
    The score is 0 if not more than half of the citations are relevant, or if the answer cites every passage although
    some are not relevant.

    Where the relevant passages are left out, or the row names none (`relevant: []`), an answer without citations scores
    1. Where the search missed them, no answer can have a source, and all score 0.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    relevant: str = "relevant"
    """The task's column with the ids of the passages that hold the answer."""
    max_copied_words: int = 20
    """Words in a row that an answer may take from a passage; one that pastes more scores 0."""

    def grade(self, completion: str, task: Task) -> Score:
        """Compare the citations with the relevant passages."""
        answer = read_answer(completion, task, self.relevant)
        sources = answer.sources
        if sources.relevant is None:
            raise LookupError(f"task {task.id} has no column '{self.relevant}' with the ids of its relevant passages")
        if (refusal := answer.refusal(self.max_copied_words)) is not None:
            return refusal
        if sources.were_missed:
            return Score(value=0.0, answer=answer.text[:200], reason="no relevant passage is shown")
        cited = answer.cited
        shown = ", ".join(cited)[:200] or "nothing"
        if sources.should_decline:
            return Score(value=float(not cited), answer=shown, reason="no passage holds the answer")
        right = len(sources.cited_best.intersection(cited))
        precision, recall = right / max(1, len(cited)), right / len(sources.cited_best)
        reason = f"precision {precision:.2g}, recall {recall:.2g}"
        if precision <= 0.5:
            return Score(value=0.0, answer=shown, reason=reason)
        if sources.texts.keys() <= set(cited) and len(sources.cited_best) < len(sources.texts):
            return Score(value=0.0, answer=shown, reason=f"cites every passage; {reason}")
        return Score(value=2 * precision * recall / (precision + recall), answer=shown, reason=reason)
