r"""Math: the final answer equals a mathematical expression in a column of the task.

graders:
  correct:
    use: math
    column: answer

One answer is read: a `\boxed{}`, an `<answer>` tag, what follows "the answer is", or else the last formula or number
(graders/math_reading.py has the order). Answers of one spelling are equal; others are compared by math-verify, decimals
to six places. By default an answer must be worked out: 6*7 is not paid for 42, nor an expression of the question, nor
(x+1)(x-1) for x^2-1 (graders/math_worked_out.py). `form: any` pays for every expression of the right value.

References in words (Yes, even, (C)) are compared as text, and so are those with a base or a colon (52_8, 12:00) and
those that math-verify cannot read.

Equations can keep sympy busy for ever. This is a sync grader without `in_process`, so that its worker process is killed
at the deadline; math-verify's own deadlines are signals, which work in a main thread only, and are off.
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
"""Of a longer completion only the end is read."""
MAX_SPELLED_CHARS = 1_200
"""A longer answer is refused, not cut; of what spelling leaves, math-verify sees up to `MAX_ANSWER_CHARS`."""

_PERCENT = re.compile(r"\\%")
_TEXT_ONLY = re.compile(r"[0-9)]_\{?[0-9]|[0-9]\s*:\s*[0-9]")
_INEQUALITY = re.compile(r"[<>]|\\[lg]eq(?![a-z])")
_ORDERED = re.compile(r"[(\[][^()\[\]]*,[^()\[\]]*[)\]]")
_EXCLAIMED = re.compile(r"[0-9]!$")
_DIFFERS = "differs from the reference"


@dataclass(frozen=True, kw_only=True)
class Math:
    """1 where the answer equals the reference, 0 where it does not.

    A task whose column is empty is skipped; one whose reference cannot be read as a whole is an error.
    """

    deterministic: ClassVar[bool] = True

    column: str = "answer"
    """The task's column that holds the reference: LaTeX, a number, words, or a solution that marks its answer."""
    form: Literal["worked_out", "any"] = "worked_out"
    """What is paid: an answer that leaves nothing to be done, or any expression of the right value."""

    def warm_up(self) -> None:
        """Import math-verify and its grammar, which takes a second."""
        _parsed("x")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the answer with the reference."""
        given = reference(task, self.column)
        if given is None:
            return Score(value=None, status=Status.SKIPPED, reason=f"column '{self.column}' is empty")
        try:
            wanted = _reference(str(given))
        except UnreadableReference as error:
            raise ValueError(f"the reference of task {task.id} cannot be read: {error}") from None
        text = final_answer(completion)[-MAX_CHARS:]
        if wanted.is_words:
            return _same_words(read_words(text), wanted.text)
        answer = read_answer(text, in_percent=wanted.text.endswith(r"\%"))
        if answer is None:
            return Score(value=0.0, status=Status.NO_ANSWER)
        reason = self._refused(answer, wanted.text, task)
        if reason is not None and _EXCLAIMED.search(answer) and "boxed" not in text:
            reason = self._refused(answer.rstrip("!"), wanted.text, task)
        status = Status.OK if reason is None or reason == _DIFFERS else Status.INVALID_OUTPUT
        return Score(value=float(reason is None), status=status, answer=answer[:MAX_ANSWER_CHARS], reason=reason)

    def _refused(self, answer: str, wanted: str, task: Task) -> str | None:
        """Say why an answer is not paid, or None where it is."""
        if len(answer) > MAX_SPELLED_CHARS:
            return f"longer than {MAX_SPELLED_CHARS} characters"
        spelled = unnamed(canonical(answer))
        if _squeezed(spelled) == _squeezed(wanted):
            return None
        if _TEXT_ONLY.search(spelled) or _TEXT_ONLY.search(wanted):
            return _DIFFERS
        costly = too_costly(spelled)
        if costly is not None:
            return costly
        if bool(_PERCENT.search(spelled)) != bool(_PERCENT.search(wanted)):
            return "a percentage on one side only"
        if self.form == "any":
            return _compared(spelled, wanted)
        question = task.messages[-1].get("content")
        if isinstance(question, str) and is_copied(spelled, question, wanted):
            return "an expression of the question, not worked out"
        reason = left_undone(spelled, wanted) or _compared(spelled, wanted)
        if reason is None and as_number(spelled) is None and _has_like_terms(spelled) and not _has_like_terms(wanted):
            return "like terms are not combined"
        return reason


@lru_cache(maxsize=4096)
def _reference(text: str) -> Reference:
    found = read_reference(text)
    return found if found.is_words else Reference(unnamed(found.text), is_words=False)


@lru_cache(maxsize=4096)
def _compared(spelled: str, wanted: str) -> str | None:
    """Say how an answer differs from the reference in value, or None where it does not."""
    numbers = as_number(spelled), as_number(wanted)
    if numbers[0] is not None and numbers[1] is not None:
        return None if _rounded(numbers[0], numbers[1]) == _rounded(numbers[1], numbers[1]) else _DIFFERS
    if _is_other_kind(spelled, wanted) or _is_other_kind(wanted, spelled):
        return _DIFFERS
    parsed_wanted, parsed = _parsed(wanted), _parsed(spelled)
    if not parsed_wanted:
        return f"{_DIFFERS}, which math-verify cannot read: its text counts"
    if not parsed:
        return "not readable as mathematics"
    from math_verify import verify

    # An inequality may equal a set; an equation does not equal the list of its solutions.
    may_be_set = bool(_INEQUALITY.search(spelled + wanted)) and "=" not in spelled + wanted
    is_equal = verify(parsed_wanted, parsed, timeout_seconds=None, allow_set_relation_comp=may_be_set)
    return None if is_equal else _DIFFERS


def _is_other_kind(one: str, other: str) -> bool:
    """Whether one is an equation and the other none, or one a point or interval and the other a set or a list."""
    if "=" in one and "=" not in other and not re.match(rf"(?:{NAME}|[^=0-9+-]*)=", one):
        return True
    return bool(_ORDERED.fullmatch(one)) and "," in other and not re.search(r"[(\[<>]", other)


def _rounded(number: Fraction, like: Fraction) -> Fraction:
    """A number to six places; where the reference is below 1, to six significant digits of it."""
    scale = Fraction(10) ** max(0, -math.floor(math.log10(abs(like))) - 1) if like else Fraction(1)
    return round(number * scale, 6)


def _same_words(answer: str | None, wanted: str) -> Score:
    if answer is None:
        return Score(value=0.0, status=Status.NO_ANSWER)
    return Score(value=float(answer.casefold() == wanted.casefold()), answer=answer)


def _squeezed(text: str) -> str:
    return re.sub(r"(?<=[A-Za-z]) (?=[A-Za-z])|(?<=,) |\*(?=[A-Za-z])", "", text)


def _has_like_terms(spelled: str) -> bool:
    return any(has_like_terms(one) for one in _parsed(spelled)[:1])


@lru_cache(maxsize=1024)
def _parsed(spelled: str) -> list[Any]:
    """Return what math-verify makes of an expression; nothing where it cannot read it."""
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its deadlines are off
    config = [LatexExtractionConfig(boxed_match_priority=0)]
    boxed = f"\\boxed{{{_PERCENT.sub('', spelled)}}}"
    parsed: list[Any] = parse(boxed, config, fallback_mode="no_fallback", parsing_timeout=None)
    return parsed
