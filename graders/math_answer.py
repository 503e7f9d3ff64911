r"""Math: the final answer equals a mathematical expression in a column of the task, as math-verify compares them.

graders:
  correct:
    use: math
    column: answer

One answer is read: the last \boxed{...}; or else what follows the last "answer is", "answer:" or "####"; or else the
last expression or number. Left to itself, math-verify takes a question for its answer (6*7 for 42), the last link of
any chain (1=2=42) and 42% for 42; `_objection` says what it is not shown. Decimals are compared to six places.

Equations can keep sympy busy for ever. This is a sync grader without `in_process`, so that its worker process is killed
at the deadline; math-verify's own deadlines are signals, which work in a main thread only, and are off.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.answers import is_negated, stated_answer

MAX_CHARS = 50_000
"""Of a longer completion only the end is read."""
MAX_ANSWER_CHARS = 300
MAX_NESTING = 10
MAX_POWER = 10_000
"""Largest exponent, those of nested powers multiplied; larger factorials and binomials than of four digits neither."""

_FORMULA = re.compile(r"(?<![\\$])\$\$?([^$]{1,300})\$\$?|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?[$\u20ac\u00a3]?-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?: ?/ ?\d+)?(?: ?\\?%| percent\b)?")
_NAMED = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s*\{[^{}]*\}")
_PROSE = re.compile(r"(?<![A-Za-z\\])(?!sqrt|sin|cos|tan|log|exp)(?:[A-Za-z]{3,}|or|is|to|of|at|in|it)(?![A-Za-z])")
_VARIABLE = re.compile(r"\s*\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([a-z]\))?\s*=(?!=)")
_EQUALS = re.compile(r"(?<![<>!:\\])=|\\(?:approx|equiv|implies|iff|Rightarrow|to)\b|[\u2248\u2261\u21d2]")
_UNFINISHED = re.compile(r"\\(?:[io]*int|sum|prod|lim|max|min|gcd|lcm|det|bmod|pmod)(?![a-z])|[\u222b\u2211\u220f]")
_PERCENT = re.compile(r"\\?%|\\text\{\s*percent\s*\}|\bpercent\b", re.IGNORECASE)
_EXPONENT = re.compile(
    r"(?P<group>[)}\]])?\s*(?:\^|\*\*)\s*(?:\{(?P<braced>[^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|(?P<one>\w+|\())"
)
_TOWER = re.compile(r"[0-9)}\]!]\s*(?:\^|\*\*)")
_BIG_FACTORIAL = re.compile(r"[0-9]{4,}\s*!|[)}\]!]\s*!|\\[dt]?binom[^+=]*[0-9]{5,}")

_SIGNED = r"[-+]?(?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)"
_INTEGER = re.compile(r"[-+]?[0-9][0-9,]*(?:\.0*)?")
_PLAIN = re.compile(
    rf"{_SIGNED}|{_SIGNED}/{_SIGNED}|[-+]?[0-9]*\\[dt]?frac(?:\{{{_SIGNED}\}}\{{{_SIGNED}\}}|[0-9][0-9])"
    rf"|{_SIGNED}(?:\\times|\\cdot|\*)10\^(?:\{{-?[0-9]+\}}|[0-9])"
)
_UNIT = re.compile(
    r"\\[,!;: ]|\\(?:text|mathrm|mbox)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?|\^\s*\{?\\circ\}?|\\?\$|(?<=[0-9]) +[A-Za-z. ]+$"
)
_SCALE = re.compile(r"pi|tau|hundred|thousand|[mbtr]+illion|dozen|half|percent", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Math:
    """1 where the answer equals the reference, 0 where it does not.

    A task whose column is empty, or holds nothing that math-verify can read, is skipped.
    """

    deterministic: ClassVar[bool] = True

    column: str = "answer"
    """The task's column that holds the reference: LaTeX, a number, or a solution that ends in a marked answer."""

    def warm_up(self) -> None:
        """Import math-verify and its grammar, which takes a second."""
        _parsed("1")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the answer with the reference."""
        text = reference(task, self.column)
        gold = None if text is None else extracted(str(text))
        parsed_gold = _parsed(gold) if gold else []
        if not gold or not parsed_gold:
            return None
        answer = extracted(final_answer(completion)[-MAX_CHARS:])
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        shown = answer[:MAX_ANSWER_CHARS]
        objection = _objection(answer, gold)
        if objection:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, answer=shown, reason=objection)
        parsed = _parsed(answer)
        if not parsed:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, answer=shown, reason="not readable as mathematics")
        from math_verify import verify

        return Score(value=float(verify(parsed_gold, parsed, timeout_seconds=None)), answer=shown)


def extracted(text: str) -> str | None:
    r"""Return the one answer that a text gives, as LaTeX, or None where it gives none.

    Example:
        extracted("so x = 4.\nThe answer is $\frac{1}{2}$.") is r"\frac{1}{2}"
    """
    text = "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text).replace("\u2212", "-")
    stated = stated_answer(text)
    if "\\boxed{" in text:
        return None if is_negated(text, text.rfind("\\boxed{")) else stated or None
    line = stated if stated is not None else text.strip().rpartition("\n")[2]
    line = line.strip("* \t\n")
    if stated is not None and re.search(r"\bor\b", line):
        return None  # two answers are none
    formulas = [match for match in _FORMULA.finditer(line) if not _is_prose(match[match.lastindex or 0])]
    if formulas:
        match = formulas[-1]
        return None if is_negated(line, match.start()) else match[match.lastindex or 0].strip().rstrip(".,;") or None
    if line and not _is_prose(line):
        return line.rstrip(".,;!* ") or None
    numbers = list(_NUMBER.finditer(line if stated is not None else text))
    if not numbers:
        return None
    match = numbers[0 if stated is not None else -1]
    return None if is_negated(match.string, match.start()) else match[0].rstrip(",")


def _is_prose(text: str) -> bool:
    return _PROSE.search(_NAMED.sub("", text)) is not None


def _objection(answer: str, gold: str) -> str | None:
    """Say why math-verify is not to see an answer, or None where it is."""
    if answer == gold:
        return None
    if len(answer) > MAX_ANSWER_CHARS:
        return f"longer than {MAX_ANSWER_CHARS} characters"
    if _nesting(answer) > MAX_NESTING:
        return f"nested deeper than {MAX_NESTING} levels"
    equals, allowed = len(_EQUALS.findall(answer)), len(_EQUALS.findall(gold))
    if equals > max(1, allowed) or (equals > allowed and not _VARIABLE.match(answer)):
        return "a chain of equations"
    if _UNFINISHED.search(answer) and not _UNFINISHED.search(gold):
        return "not worked out"
    if bool(_PERCENT.search(answer)) != bool(_PERCENT.search(gold)):
        return "a percentage on one side only"
    if _TOWER.search(_exponents(answer)) or _power(answer) > MAX_POWER or _BIG_FACTORIAL.search(answer):
        return "too large a power or factorial"
    bare_gold, bare = _bare(gold), _bare(_VARIABLE.sub("", answer, count=1))
    if _INTEGER.fullmatch(bare_gold) and not re.fullmatch(rf"{_PLAIN.pattern}", bare):
        return "not worked out to a number"
    if _INTEGER.fullmatch(bare_gold) and ("/" in bare or "frac" in bare):
        return "not worked out to a whole number"
    if _PLAIN.fullmatch(bare_gold) and not _PLAIN.fullmatch(bare):
        return "not worked out to a number"
    return None


def _nesting(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _exponents(text: str) -> str:
    return " ".join(match["braced"] or match["one"] or "" for match in _EXPONENT.finditer(text))


def _power(text: str) -> int:
    """Return a bound of the largest exponent once nested powers are multiplied out."""
    nested, largest = 1, 1
    for match in _EXPONENT.finditer(text):
        numbers = re.findall(r"[0-9]+", match["braced"] or match["one"] or "")
        size = math.prod(int(number) for number in numbers if int(number) > 1)
        nested, largest = (nested * size, largest) if match["group"] else (nested, max(largest, size))
    return nested * largest


def _bare(text: str) -> str:
    """Return a text without units, currency, percent signs and space."""
    bare = text if _SCALE.search(text) else _UNIT.sub("", text)
    return re.sub(r"\s", "", _PERCENT.sub("", bare))


def _parsed(latex: str) -> list[Any]:
    """Return what math-verify makes of an expression; nothing where it cannot read it."""
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its deadlines are off
    config = [LatexExtractionConfig(boxed_match_priority=0)]
    boxed = f"\\boxed{{{_PERCENT.sub('', latex)}}}"
    parsed: list[Any] = parse(boxed, config, fallback_mode="no_fallback", parsing_timeout=None)
    return parsed
