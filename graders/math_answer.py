r"""Math: the final answer equals a mathematical expression in a column of the task.

graders:
  correct:
    use: math
    column: answer

The grader reads one answer: a `\boxed{}`, an `<answer>` tag, the text after "the answer is", or the last formula or
number (graders/math_reading.py has the order). Answers with the same canonical notation are equal; math-verify compares
others, decimals to six places. By default an answer must be worked out: 6*7 does not score for 42, nor does an
expression of the question, nor (x+1)(x-1) for x^2-1 (graders/math_worked_out.py). `form: any` accepts every expression
with the right value.

References in words (Yes, even, (C)), with a base or a colon (52_8, 12:00), and those that math-verify cannot parse are
compared as text.

Some equations occupy sympy indefinitely. This is a sync grader without `in_process`, so its worker process is killed at
the deadline. math-verify's deadlines are disabled, because their signals work only in a main thread.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar, Literal

from graders.math_reading import Reference, UnreadableReference, read_answer, read_reference, read_words
from graders.math_worked_out import MAX_ANSWER_CHARS, has_like_terms, is_copied, left_undone, too_costly
from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.notation import NAME, as_number, canonical, unnamed

MAX_CHARS = 50_000
"""Only the end of a longer completion is read."""
MAX_SPELLED_CHARS = 1_200
"""A longer answer is rejected, not cut. math-verify sees up to `MAX_ANSWER_CHARS` of its canonical notation."""

_PERCENT = re.compile(r"\\%")
_TEXT_ONLY = re.compile(r"[0-9)]_\{?[0-9]|[0-9]\s*:\s*[0-9]")
_INEQUALITY = re.compile(r"[<>]|\\[lg]eq(?![a-z])")
_ORDERED = re.compile(r"[(\[][^()\[\]]*,[^()\[\]]*[)\]]")
_EXCLAIMED = re.compile(r"[0-9]!$")
_DIFFERS = "differs from the reference"


@dataclass(frozen=True, kw_only=True)
class Math:
    """Scores 1 if the answer equals the reference, otherwise 0.

    A task with an empty column is skipped. A reference that cannot be read completely is an error.
    """

    deterministic: ClassVar[bool] = True

    column: str = "answer"
    """The task's column with the reference: LaTeX, a number, words, or a solution that marks its answer."""
    form: Literal["worked_out", "any"] = "worked_out"
    """`worked_out`: only a worked-out answer scores 1. `any`: every expression with the right value does."""

    def warm_up(self) -> None:
        """Import math-verify and its grammar, which takes a second."""
        _parsed("x")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the answer with the reference."""
        given = reference(task, self.column)
        if given is None:
            return Score(value=None, status=Status.SKIPPED, reason=f"column '{self.column}' is empty")
        try:
            expected = _reference(str(given))
        except UnreadableReference as error:
            raise ValueError(f"the reference of task {task.id} cannot be read: {error}") from None
        text = final_answer(completion)[-MAX_CHARS:]
        if expected.is_words:
            return _same_words(read_words(text), expected.text)
        answer = read_answer(text, in_percent=expected.text.endswith(r"\%"))
        if answer is None:
            return Score(value=0.0, status=Status.NO_ANSWER)
        reason = self._refused(answer, expected.text, task)
        if reason is not None and _EXCLAIMED.search(answer) and "boxed" not in text:
            reason = self._refused(answer.rstrip("!"), expected.text, task)
        status = Status.OK if reason is None or reason == _DIFFERS else Status.INVALID_OUTPUT
        return Score(value=float(reason is None), status=status, answer=answer[:MAX_ANSWER_CHARS], reason=reason)

    def _refused(self, answer: str, expected: str, task: Task) -> str | None:
        """Return the reason why an answer scores 0; None if it scores 1."""
        if len(answer) > MAX_SPELLED_CHARS:
            return f"longer than {MAX_SPELLED_CHARS} characters"
        spelled = unnamed(canonical(answer))
        if _squeezed(spelled) == _squeezed(expected):
            return None
        if _TEXT_ONLY.search(spelled) or _TEXT_ONLY.search(expected):
            return _DIFFERS
        costly = too_costly(spelled)
        if costly is not None:
            return costly
        if bool(_PERCENT.search(spelled)) != bool(_PERCENT.search(expected)):
            return "only one side is a percentage"
        if self.form == "any":
            return _compared(spelled, expected)
        question = task.messages[-1].get("content")
        if isinstance(question, str) and is_copied(spelled, question, expected):
            return "an expression of the question, not worked out"
        reason = left_undone(spelled, expected) or _compared(spelled, expected)
        if reason is None and as_number(spelled) is None and _has_like_terms(spelled) and not _has_like_terms(expected):
            return "like terms are not combined"
        return reason


@lru_cache(maxsize=4096)
def _reference(text: str) -> Reference:
    reference = read_reference(text)
    return reference if reference.is_words else Reference(unnamed(reference.text), is_words=False)


@lru_cache(maxsize=4096)
def _compared(spelled: str, expected: str) -> str | None:
    """Return how an answer's value differs from the reference; None if they are equal."""
    numbers = as_number(spelled), as_number(expected)
    if numbers[0] is not None and numbers[1] is not None:
        return None if _rounded(numbers[0], numbers[1]) == _rounded(numbers[1], numbers[1]) else _DIFFERS
    if _is_other_kind(spelled, expected) or _is_other_kind(expected, spelled):
        return _DIFFERS
    parsed_expected, parsed = _parsed(expected), _parsed(spelled)
    if not parsed_expected:
        return f"{_DIFFERS}, and math-verify cannot parse it, so the texts were compared"
    if not parsed:
        return "not readable as mathematics"
    from math_verify import verify

    # An inequality may equal a set; an equation does not equal the list of its solutions.
    may_be_set = bool(_INEQUALITY.search(spelled + expected)) and "=" not in spelled + expected
    is_equal = verify(parsed_expected, parsed, timeout_seconds=None, allow_set_relation_comp=may_be_set)
    return None if is_equal else _DIFFERS


def _is_other_kind(first: str, second: str) -> bool:
    """Whether only the first is an equation, or the first is a point or interval and the second a set or a list."""
    if "=" in first and "=" not in second and not re.match(rf"(?:{NAME}|[^=0-9+-]*)=", first):
        return True
    return bool(_ORDERED.fullmatch(first)) and "," in second and not re.search(r"[(\[<>]", second)


def _rounded(number: Fraction, like: Fraction) -> Fraction:
    """A number to six decimal places; for a reference below 1, to six of its significant digits."""
    scale = Fraction(10) ** max(0, -math.floor(math.log10(abs(like))) - 1) if like else Fraction(1)
    return round(number * scale, 6)


def _same_words(answer: str | None, expected: str) -> Score:
    if answer is None:
        return Score(value=0.0, status=Status.NO_ANSWER)
    return Score(value=float(answer.casefold() == expected.casefold()), answer=answer)


def _squeezed(text: str) -> str:
    return re.sub(r"(?<=[A-Za-z]) (?=[A-Za-z])|(?<=,) |\*(?=[A-Za-z])", "", text)


def _has_like_terms(spelled: str) -> bool:
    return any(has_like_terms(expression) for expression in _parsed(spelled)[:1])


@lru_cache(maxsize=1024)
def _parsed(spelled: str) -> list[Any]:
    """Return math-verify's parse of an expression; empty if it cannot parse it."""
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its deadlines are disabled
    config = [LatexExtractionConfig(boxed_match_priority=0)]
    boxed = f"\\boxed{{{_PERCENT.sub('', spelled)}}}"
    parsed: list[Any] = parse(boxed, config, fallback_mode="no_fallback", parsing_timeout=None)
    return parsed
