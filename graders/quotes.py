"""Quotes: the quotations of the final answer occur in the passages that it cites for them.

graders:
  main:
    use: composite
    how: grounded            # quotations count only under a right answer
    of:
      correct: {use: contains, column: answer}
      quotes: {use: quotes}

A quotation stands in double quotation marks, and the next citations after it name its passages: "once a week" [p3]. All
of them must hold it. Case and punctuation do not count.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Score, Task
from rft.grading.cited_answers import CitedAnswer, read_answer, words_of

_QUOTATION = re.compile(r'"([^"\n]+)"|\u201c([^\u201c\u201d\n]+)\u201d|\u00ab([^\u00ab\u00bb\n]+)\u00bb')


@dataclass(frozen=True, kw_only=True)
class Quotes:
    """Scores the share of the quotations that occur in the passages cited for them, 0 to 1; 0 without a quotation.

    If the row names relevant passages, a quotation must be from one of these. Where they are left out, or the row names
    none (`relevant: []`), an answer without quotations scores 1. Where the search missed them, all answers score 0.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    min_words: int = 3
    """Words of a quotation; fewer in quotation marks are not one."""
    relevant: str = "relevant"
    """The task's column with the ids of the passages that hold the answer; it may be missing."""
    max_copied_words: int = 20
    """Words in a row that an answer may take from a passage; one that pastes more scores 0."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_copied_words:
            raise ValueError(
                f"min_words={self.min_words} must be at least 1, and at most max_copied_words={self.max_copied_words}"
            )

    def grade(self, completion: str, task: Task) -> Score:
        """Look each quotation up."""
        answer = read_answer(completion, task, self.relevant)
        if (refusal := answer.refusal(self.max_copied_words)) is not None:
            return refusal
        if answer.sources.were_missed:
            return Score(value=0.0, answer=answer.text[:200], reason="no relevant passage is shown")
        quotations = list(self._quotations(answer))
        if answer.sources.should_decline:
            return Score(value=float(not quotations), answer=answer.text[:200], reason="no passage holds the answer")
        wrong = [text for text, cited in quotations if not _occurs(text, cited, answer)]
        reason = f"not in the cited passage: {wrong[0]!r:.120}" if wrong else None if quotations else "no quotation"
        return Score(
            value=1 - len(wrong) / len(quotations) if quotations else 0.0, answer=answer.text[:200], reason=reason
        )

    def _quotations(self, answer: CitedAnswer) -> Iterator[tuple[str, list[str]]]:
        """Yield each quotation once, with the ids in the next citations after it."""
        seen: set[tuple[str, ...]] = set()
        for match in _QUOTATION.finditer(answer.text):
            text = next(filter(None, match.groups()))
            words = tuple(words_of(text))
            if len(words) < self.min_words or words in seen:
                continue
            seen.add(words)
            after = bisect.bisect_left(answer.groups, match.end(), key=lambda group: group[0])
            yield text, answer.groups[after][1] if after < len(answer.groups) else []


def _occurs(text: str, cited: list[str], answer: CitedAnswer) -> bool:
    """Whether a quotation occurs, word for word, in all passages cited for it."""
    sources = answer.sources
    allowed = sources.texts.keys() if sources.relevant is None else sources.cited_best
    quoted = f" {' '.join(words_of(text))} "
    return bool(cited) and all(
        name in allowed and quoted in f" {' '.join(words_of(sources.texts[name]))} " for name in cited
    )
