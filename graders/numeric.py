r"""Numeric: the last number of the final answer equals the number in a column of the task.

graders:
  correct:
    use: numeric
    column: answer
    reference_pattern: '#### (.+)'   # the place of the number in the column, as in GSM8K
    tolerance: 0.01

Read as numbers: 1,234.5  14{,}916  $-3  50% (as 50)  .5  1e-3  3/4  a Unicode minus, and the digits of every script.
Not read: a decimal comma, 10^3, LaTeX other than a plain fraction, digits that continue a Latin word, as in H2O or 2nd,
digits beside a fraction or a Roman numeral of one character, as in 42½, and a last number that the text denies, as in
"it is not 18". Numbers are compared exactly, not as floats.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.denial import is_denied
from rft.grading.notation import ascii_digits

MAX_CHARS = 10_000
"""Only the end of a longer text is read."""
MAX_BOX_CHARS = 40
"""Maximum distance between a number and the beginning of its `\boxed{`."""

# Possessive (`++`, `?+`) throughout: no number is read in part, and every text takes linear time.
_NUMERALS = r"\u00bc-\u00be\u2150-\u218b"  # fractions and Roman numerals of one character
_DIGITS = r"(?>[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)"
_NUMBER = re.compile(
    rf"(?=[-+.$\u20ac\u00a3\u00a50-9])(?<![0-9A-Za-z_{_NUMERALS}\u00c0-\u024f\u0370-\u04ff])(?<![0-9]\.)"
    r"(?P<sign>[-+]?+[$\u20ac\u00a3\u00a5]?+[-+]?+)"
    rf"(?P<top>(?>{_DIGITS}(?:\.[0-9]++)?+|(?<!\.)\.[0-9]++)(?:[eE][-+]?+[0-9]{{1,3}}+)?+)"
    rf"(?: ?/ ?(?P<bottom>{_DIGITS}(?:\.[0-9]++)?+))?+"
    rf"(?!(?:st|nd|rd|th)\b|[0-9_{_NUMERALS}]|[eE][-+]?[0-9])"
)
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}")
_SEPARATOR = re.compile(r"(?<=[0-9])(?:\{,\}|\\,|,\\!) ?(?=[0-9]{3}(?![0-9]))")
_OPEN_BOX = re.compile(r"\\boxed\{[^{}]*\Z")
_MINUS = str.maketrans("\u2212\u2013\uff0d", "---")


@dataclass(frozen=True, kw_only=True)
class Numeric:
    """Scores 1 if the answer equals the reference within a tolerance (the larger of the two), otherwise 0.

    A task with an empty column is skipped. A reference without a number is an error.
    """

    deterministic: ClassVar[bool] = True

    column: str = "answer"
    """The task's column with the reference."""
    tolerance: float = 0.0
    """Maximum difference from the reference."""
    relative_tolerance: float = 0.0
    """Maximum difference from the reference, as a share of the reference."""
    pattern: re.Pattern[str] | None = None
    """The part of the final answer to read: the last match, or its first group. None reads the whole answer."""
    reference_pattern: re.Pattern[str] | None = None
    """The part of the reference to read, likewise."""

    def __post_init__(self) -> None:
        if not (0 <= self.tolerance < math.inf and 0 <= self.relative_tolerance < math.inf):
            raise ValueError("tolerance and relative_tolerance must be at least 0 and finite")

    @property
    def in_process(self) -> bool:
        """Whether its time is bounded: a user's pattern may take very long."""
        return self.pattern is None and self.reference_pattern is None

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the two numbers."""
        text = reference(task, self.column)
        if text is None:
            return None
        expected = last_number(_picked(str(text), self.reference_pattern))
        if expected is None:
            raise ValueError(f"the reference of task {task.id} holds no number: {str(text)[-80:]!r}")
        answer = _picked(final_answer(completion), self.pattern)
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        number = last_number(answer)
        if number is None:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason="no number in the answer")
        allowed = max(Fraction(str(self.tolerance)), Fraction(str(self.relative_tolerance)) * abs(expected))
        return Score(value=float(abs(number - expected) <= allowed), answer=answer[-80:])


def last_number(text: str) -> Fraction | None:
    """Return the last number of a text; None if it has none."""
    text = ascii_digits(text[-MAX_CHARS:]).translate(_MINUS)
    if "{" in text or "\\" in text:
        text = _FRACTION.sub(r"\1/\2", _SEPARATOR.sub("", text))
    match = _last_match(_NUMBER, text)
    if match is None:
        return None
    box = _OPEN_BOX.search(match.string, max(0, match.start() - MAX_BOX_CHARS), match.start())
    start = match.start() if box is None else box.start()
    if is_denied(match.string, start, match.end(), boxed=box is not None):
        return None
    # Through Decimal: int() and Fraction() reject texts of more than 4300 digits.
    top, bottom = (Fraction(Decimal((digits or "1").replace(",", ""))) for digits in match.group("top", "bottom"))
    if not bottom:
        return None
    return -top / bottom if "-" in match["sign"] else top / bottom


def _picked(text: str, pattern: re.Pattern[str] | None) -> str:
    """Return the part of a text that a pattern selects; None without a match."""
    if pattern is None:
        return text
    match = _last_match(pattern, text[-MAX_CHARS:])
    return (match[1 if pattern.groups else 0] or "") if match else ""


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = list(pattern.finditer(text))
    return matches[-1] if matches else None
