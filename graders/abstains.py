"""Abstains: the final answer says that the sources do not tell exactly where no passage holds the answer.

graders:
  main:
    use: composite
    how: grounded            # answering counts only if the answer is right
    of:
      correct: {use: contains, column: answer}
      abstains: {use: abstains}

No passage holds the answer where retrieval left out the relevant ones (`retrieval.left_out_share`), where the search
missed them, or where the row names none (`relevant: []`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Score, Task
from rft.grading.cited_answers import IS_LEFT_OUT, read_answer

PHRASES = (
    "do not say", "does not say", "don't say", "doesn't say", "do not tell", "does not tell", "do not mention",
    "does not mention", "not stated", "not given", "not specified", "not mentioned", "not in the sources",
    "no information", "do not know", "don't know", "cannot answer", "can't answer", "cannot be answered",
)  # fmt: skip

_FENCE = re.compile(r"```\w*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_COURTESY = re.compile(r"\W*(?:(?:i am|i'm|we are|we're) sorry|sorry|unfortunately)\W*", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:but|however|although|though|yet|still|probably|likely|perhaps|maybe|usually|typically|generally|guess)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Abstains:
    """Scores 1 if the answer declines where no passage holds it, or does not decline where one does; otherwise 0.

    An answer declines with one of the phrases. Where it should, each sentence has to, without "but", "probably" or
    another sign of a guess.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    phrases: tuple[str, ...] = PHRASES
    """Phrases that decline, in any case."""
    slack_chars: int = 100
    """Characters by which an answer that declines may exceed its phrase."""
    relevant: str = "relevant"
    """The task's column with the ids of the passages that hold the answer."""
    max_copied_words: int = 20
    """Words in a row that an answer may take from a passage; one that pastes more scores 0."""

    def __post_init__(self) -> None:
        if not self.phrases or not all(phrase.strip() for phrase in self.phrases):
            raise ValueError("phrases needs at least one, and none may be empty: every answer contains an empty text")
        if self.slack_chars < 0:
            raise ValueError(f"slack_chars={self.slack_chars} must be at least 0")

    def grade(self, completion: str, task: Task) -> Score:
        """Search for the phrases."""
        answer = read_answer(completion, task, self.relevant)
        sources = answer.sources
        if sources.relevant is None and IS_LEFT_OUT not in task.item:
            raise LookupError(
                f"task {task.id} has neither '{IS_LEFT_OUT}' nor a column '{self.relevant}' with the ids of its "
                "relevant passages, so it is not known whether its passages hold the answer"
            )
        if (refusal := answer.refusal(self.max_copied_words)) is not None:
            return refusal
        text = _FENCE.sub("", answer.bare.replace("\u2019", "'"))
        phrases = [phrase for phrase in self.phrases if _says(text, phrase)]
        if not (sources.should_decline or sources.were_missed):
            reason = f"declines ({phrases[0]!r}), and a passage holds the answer" if phrases else None
            return Score(value=float(not phrases), answer=answer.text[:200], reason=reason)
        reason = None if phrases else "no passage holds the answer"
        if phrases and not self._is_plain(text, phrases):
            reason = "declines, and says more"
        return Score(value=float(reason is None), answer=answer.text[:200], reason=reason)

    def _is_plain(self, text: str, phrases: list[str]) -> bool:
        """Whether a text that declines does nothing else."""
        sentences = [part for part in _SENTENCE_END.split(text) if part.strip() and not _COURTESY.fullmatch(part)]
        all_decline = all(any(_says(sentence, phrase) for phrase in phrases) for sentence in sentences)
        is_short = len(text) <= max(map(len, phrases)) + self.slack_chars
        return all_decline and is_short and _HEDGE.search(text) is None


def _says(text: str, phrase: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase.strip())}(?!\w)", text, re.IGNORECASE) is not None
