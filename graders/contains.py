"""Contains: the final answer contains given texts, or the texts in a column of the task.

graders:
  names_it:
    use: contains
    column: answer
    choices_column: cities   # optional: all possible answers; naming one that is not wanted scores 0

An answer that lists everything contains everything. So a wanted text does not count where the answer denies it ("not
Paris", "Paris is wrong"), offers it with another ("Paris or Rome"), or lists it among two or more others ("Rome, Paris,
Oslo"); and the answer may be only `slack_chars` longer than what it must contain.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.denial import is_denied

MIN_LISTED = 2
"""So many other answers beside the wanted one make a list of guesses; one may explain it, as in "Paris, France"."""

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
    """1 where the final answer contains the texts, as whole words, 0 where it does not.

    A task whose column is empty is skipped.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    texts: tuple[str, ...] = ()
    """What to look for, the same for each task; give these or `column`."""
    column: str | None = None
    """The task's column that holds a text, or a list of texts, to look for."""
    mode: Literal["all", "any"] = "all"
    """Whether all of the texts must be there, or any one of them."""
    choices_column: str | None = None
    """The task's column that lists all possible answers. Where one is named that is not wanted, the score is 0."""
    ignore_case: bool = True
    """Whether `paris` counts for `Paris`."""
    slack_chars: int = 100
    """How many characters longer than the wanted texts together the final answer may be."""

    def __post_init__(self) -> None:
        if bool(self.texts) == bool(self.column):
            raise ValueError("give either texts or column")
        if not all(text.strip() for text in self.texts):
            raise ValueError("texts must not be empty: every answer contains them")
        if self.slack_chars < 0:
            raise ValueError(f"slack_chars={self.slack_chars} must be at least 0")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Look for the texts."""
        wanted = self.texts if self.column is None else _listed(task, self.column)
        if not wanted:
            return None
        answer = final_answer(completion)
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        if len(answer) > sum(map(len, wanted)) + self.slack_chars:
            return Score(value=0.0, reason="longer than slack_chars allows")
        unwanted = () if self.choices_column is None else _listed(task, self.choices_column)
        known = {self._key(text) for text in wanted}
        named = [text for text in unwanted if self._key(text) not in known and self._is_in(text, answer)]
        if named:
            return Score(value=0.0, answer=answer, reason=f"also names {named[0]!r}")
        hedge = _hedge(answer, wanted)
        if hedge is not None:
            return Score(value=0.0, answer=answer, reason=hedge)
        found = [self._is_in(text, answer) for text in wanted]
        return Score(value=float(all(found) if self.mode == "all" else any(found)), answer=answer)

    def _is_in(self, text: str, answer: str) -> bool:
        pattern = rf"(?<!\w){re.escape(text.strip())}(?!\w)"
        matches = re.finditer(pattern, answer, re.IGNORECASE if self.ignore_case else 0)
        return any(not is_denied(answer, match.start(), match.end()) for match in matches)

    def _key(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


def _hedge(answer: str, wanted: tuple[str, ...]) -> str | None:
    """Say how an answer names more than it is asked for, or None where it does not."""
    if not _BREAK.search(answer):
        return None
    known = {text.strip().casefold() for text in wanted}
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
    """Whether a part of an answer could itself be an answer: up to three words, none of them a function word."""
    return len(item.split()) <= 3 and _FUNCTION_WORD.search(item) is None


def _listed(task: Task, column: str) -> tuple[str, ...]:
    """Return the texts in a column that holds one or a list of them; none where it is empty."""
    value = reference(task, column)
    values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    texts = tuple(str(one) for one in values)
    if not all(text.strip() for text in texts):
        raise ValueError(f"column '{column}' of task {task.id} holds an empty text, which every answer contains")
    return texts
