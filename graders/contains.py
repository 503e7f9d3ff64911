"""Contains: the final answer contains given texts, or the texts in a column of the task.

graders:
  names_it:
    use: contains
    column: answer
    choices_column: cities   # optional: all possible answers; an answer that names another of them scores 0

A list of all answers contains every text. A text therefore does not count if the answer denies it ("not Paris", "Paris
is wrong"), offers an alternative ("Paris or Rome"), or lists it with two or more others ("Rome, Paris, Oslo"). The
answer may be only `slack_chars` longer than the texts.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.denial import is_denied

MIN_LISTED = 2
"""Minimum number of other answers that make a list of guesses; a single one may be an explanation ("Paris, France")."""

_MARKS = " \t\n.:!?*_`\"'(){}[]-$\\"
_BREAK = re.compile(r"[,;/|\n]|\b(?:[oO]r|OR|[aA]nd)\b|\}\s*(?=\\boxed)|\\boxed\{")
_OR = re.compile(r"\bor\b|/|\|", re.IGNORECASE)
_LEAD = re.compile(r"^.*\b(?:is|are|be|either)\s+|^(?:the\s+)?answer\s*:\s*", re.IGNORECASE)
_FUNCTION_WORD = re.compile(
    r"\b(?:the|an?|is|are|was|were|in|on|at|of|by|for|to|with|which|where|who|that|because|since|as|not|it|its|this"
    r"|but|so|also|have|has|had)\b"
)


@dataclass(frozen=True, kw_only=True)
class Contains:
    """Scores 1 if the final answer contains the texts as whole words, otherwise 0.

    A task with an empty column is skipped.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    texts: tuple[str, ...] = ()
    """The texts for all tasks; set either these or `column`."""
    column: str | None = None
    """The task's column with a text or a list of texts."""
    mode: Literal["all", "any"] = "all"
    """Whether all of the texts or any one of them must occur."""
    choices_column: str | None = None
    """The task's column with all possible answers. An answer that names another of them scores 0."""
    ignore_case: bool = True
    """Whether `paris` equals `Paris`."""
    slack_chars: int = 100
    """Number of characters by which the final answer may exceed the texts."""

    def __post_init__(self) -> None:
        if bool(self.texts) == bool(self.column):
            raise ValueError("set either texts or column")
        if not all(text.strip() for text in self.texts):
            raise ValueError("texts must not be empty: every answer contains them")
        if self.slack_chars < 0:
            raise ValueError(f"slack_chars={self.slack_chars} must be at least 0")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Search for the texts."""
        texts = self.texts if self.column is None else _listed(task, self.column)
        if not texts:
            return None
        answer = final_answer(completion)
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        if len(answer) > sum(map(len, texts)) + self.slack_chars:
            return Score(value=0.0, reason="longer than slack_chars allows")
        unwanted = () if self.choices_column is None else _listed(task, self.choices_column)
        known = {self._key(text) for text in texts}
        named = [text for text in unwanted if self._key(text) not in known and self._is_in(text, answer)]
        if named:
            return Score(value=0.0, answer=answer, reason=f"also names {named[0]!r}")
        hedge = _hedge(answer, texts)
        if hedge is not None:
            return Score(value=0.0, answer=answer, reason=hedge)
        occurs = [self._is_in(text, answer) for text in texts]
        return Score(value=float(all(occurs) if self.mode == "all" else any(occurs)), answer=answer)

    def _is_in(self, text: str, answer: str) -> bool:
        pattern = rf"(?<!\w){re.escape(text.strip())}(?!\w)"
        matches = re.finditer(pattern, answer, re.IGNORECASE if self.ignore_case else 0)
        return any(not is_denied(answer, match.start(), match.end()) for match in matches)

    def _key(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


def _hedge(answer: str, texts: tuple[str, ...]) -> str | None:
    """Describe how an answer names more than the texts; None if it does not."""
    if not _BREAK.search(answer):
        return None
    known = {text.strip().casefold() for text in texts}
    items = [_LEAD.sub("", item.strip(_MARKS)).casefold() for item in _BREAK.split(answer)]
    others = [item for item in items if item and item not in known and _is_name(item)]
    if known & set(items) and len(others) >= MIN_LISTED:
        return f"also lists {others[0]!r} and {others[1]!r}"
    for before, after in itertools.pairwise(_OR.split(answer)):
        left, right = before.strip(_MARKS).casefold(), after.strip(_MARKS).casefold()
        if left.endswith(tuple(known)) != right.startswith(tuple(known)):
            return "offers another answer with 'or'"
    return None


def _is_name(item: str) -> bool:
    """Whether a part of an answer could be an answer itself: up to three words, none of them a function word."""
    return len(item.split()) <= 3 and _FUNCTION_WORD.search(item) is None


def _listed(task: Task, column: str) -> tuple[str, ...]:
    """Return the texts of a column with one or several texts; empty if the column is empty."""
    value = reference(task, column)
    values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    texts = tuple(map(str, values))
    if not all(text.strip() for text in texts):
        raise ValueError(f"column '{column}' of task {task.id} contains an empty text, which every answer contains")
    return texts
