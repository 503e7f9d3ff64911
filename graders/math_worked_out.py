r"""Checks that an answer is worked out, and that math-verify can parse it safely, for the math grader.

Equal values are not enough: math-verify evaluates $6\cdot7$, accepts a question as its answer, and reads the last part
of a chain ($1=2=42$). An answer is worked out if it leaves no step undone that the reference has done:

- a number, and each number in a list, point or matrix, is written as a number;
- it has no arithmetic on two numbers, no integral, sum, limit or derivative, and no product of matrices or sums,
  unless the reference has one as well;
- like terms are combined;
- it is not an expression of the question, in any order of its parts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from graders.math_reading import FORMULA, formula_content
from rft.grading.notation import as_number, canonical, tidy

MAX_ANSWER_CHARS = 300
MAX_NESTING = 10
MAX_POWER = 10_000
"""Largest exponent, nested powers multiplied; factorials and binomials are limited to four digits."""

_EQUALS = re.compile(r"(?<![<>!:\\])=|\\(?:approx|equiv|implies|iff|Rightarrow|to)(?![a-z])|[\u21d2\u2261]")
_ASSIGNED = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([a-z]\))?=(?!=)")
_PERCENT = re.compile(r"\\%")
_OPERATORS = re.compile(
    r"\\(?:[io]*int|sum|prod|lim|max|min|gcd|lcm|det|bmod|pmod|mod)(?![a-z])|[\u222b\u2211\u220f]"
    r"|\\frac\{(?:d|\\partial)(?:\^[^{}]*)?\}\{(?:d|\\partial)|\\begin\{vmatrix\}"
)
_SUM = r"\((?:[^()]|\([^()]*\))*[^(,\^][+-](?:[^(),]|\([^()]*\))*\)"
_TWO_SUMS = re.compile(rf"{_SUM}(?:\\cdot|\\times|\*)?{_SUM}")
_MATRIX = re.compile(r"\\begin\{pmatrix\}")
_LITERAL = r"[0-9]+(?:\.[0-9]+)?"
_ARITHMETIC = re.compile(
    rf"(?<![\^_0-9.A-Za-z])(?<!\^-){_LITERAL}"
    rf"(?:(?:\*|\\(?:cdot|times|div))-?{_LITERAL}(?![0-9.]*[\^!])|[-+]-?{_LITERAL}(?![0-9.]*(?:[A-Za-z\\(^_!*/{{])))"
)
_SCIENTIFIC = re.compile(rf"{_LITERAL}(?:\\times|\\cdot|\*)10(?:\^|$)")
_SEPARATORS = re.compile(r"\\[{}]|[()\[\],]|&|\\\\|\\(?:begin|end)\{\w+\}|\\cup|[+-]?\\infty")
_EXPONENT = re.compile(
    r"(?P<group>[)}\]])?\s*(?:\^|\*\*)\s*(?:\{(?P<braced>[^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|(?P<one>\w+|\())"
)
_TOWER = re.compile(r"[0-9)}\]!]\s*(?:\^|\*\*)")
_BIG_FACTORIAL = re.compile(r"[0-9]{4,}\s*!|[)}\]!]\s*!|\\[dt]?binom[^+=]*[0-9]{5,}")

_BARE = re.compile(r"[0-9(][0-9a-z+\-*/^().,% \u00d7\u00f7]{2,}[0-9a-z)]")
_NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?|-?\.[0-9]+")
_RELATION = re.compile(r"=|<|>|\\(?:leq|geq|neq|approx|equiv|to)(?![a-z])")
_TOKEN = re.compile(r"\\[A-Za-z]+|[0-9.]+|\S")
_SILENT = frozenset({"(", ")", "[", "]", "{", "}", "*", "\\cdot", "\\times", "."})


def too_costly(answer: str) -> str | None:
    """Return the reason why an answer could keep sympy busy; None if it could not."""
    if len(answer) > MAX_ANSWER_CHARS:
        return f"longer than {MAX_ANSWER_CHARS} characters"
    if _nesting(answer) > MAX_NESTING:
        return f"nested deeper than {MAX_NESTING} levels"
    if _TOWER.search(_exponents(answer)) or _power(answer) > MAX_POWER or _BIG_FACTORIAL.search(answer):
        return "too large a power or factorial"
    return None


def left_undone(answer: str, reference: str) -> str | None:
    """Return the step that an answer, but not its reference, leaves undone, or None. Both are in canonical notation."""
    links, allowed = len(_EQUALS.findall(answer)), len(_EQUALS.findall(reference))
    if links > max(1, allowed) or (links > allowed and not _ASSIGNED.match(answer)):
        return "a chain of equations"
    if _OPERATORS.search(answer) and not _OPERATORS.search(reference):
        return "not worked out"
    number = as_number(reference)
    if number is not None and as_number(answer) is None:
        return "not worked out to a number"
    if number is not None and number.denominator == 1 and ("/" in answer or "frac" in answer):
        return "not worked out to a whole number"
    parts = _parts(reference)
    if number is None and parts and all(map(_is_plain, parts)) and not all(map(_is_plain, _parts(answer))):
        return "not worked out to numbers"
    if _ARITHMETIC.search(_SCIENTIFIC.sub("", answer)) and not _ARITHMETIC.search(reference):
        return "arithmetic is not carried out"
    if _TWO_SUMS.search(answer) and not _TWO_SUMS.search(reference):
        return "not multiplied out"
    if len(_MATRIX.findall(answer)) > max(1, len(_MATRIX.findall(reference))):
        return "an expression of matrices is not worked out"
    return None


def has_like_terms(parsed: Any) -> bool:
    """Whether terms of a sum in an expression parsed by math-verify could be combined."""
    from sympy import Add, Expr, preorder_traversal

    if not isinstance(parsed, Expr):
        return False
    for node in preorder_traversal(parsed):
        if isinstance(node, Add):
            terms = list(_terms(node))
            if len(Add.make_args(Add(*(term.doit() for term in terms)))) < len(terms):
                return True
    return False


def is_copied(answer: str, question: str, reference: str) -> bool:
    """Whether an answer is an expression of the question, in any order of its parts.

    A name is not. A number in plain digits is one only if the reference writes it differently, as a fraction or in
    scientific notation.
    """
    if as_number(answer) is not None and "/" not in answer and "\\" not in answer:
        is_rewritten = as_number(reference) is not None and ("/" in reference or "\\" in reference)
        return is_rewritten and answer in map(canonical, _NUMBER.findall(tidy(question)))
    tokens = _tokens(answer)
    return len(tokens) > 1 and tokens != _tokens(reference) and tokens in _expressions(question)


@lru_cache(maxsize=1024)
def _expressions(question: str) -> frozenset[tuple[str, ...]]:
    formulas = [formula_content(match) for match in FORMULA.finditer(question)]
    if not formulas:
        formulas = _BARE.findall(question)
    spelled = [canonical(formula) for formula in formulas]
    return frozenset(_tokens(side) for formula in spelled for side in [formula, *_RELATION.split(formula)])


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(sorted(token for token in _TOKEN.findall(text) if token not in _SILENT))


def _parts(text: str) -> list[str]:
    """Return the numbers of a list, point, interval or matrix; empty for a single expression."""
    if "," not in text and "\\begin" not in text:
        return []
    return [bare for part in _SEPARATORS.split(text) if (bare := _ASSIGNED.sub("", part.strip(), count=1))]


def _is_plain(text: str) -> bool:
    return as_number(text) is not None


def _terms(node: Any) -> Iterator[Any]:
    from sympy import Add

    for term in node.args:
        if isinstance(term, Add):
            yield from _terms(term)
        else:
            yield term


def _nesting(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _exponents(text: str) -> str:
    return " ".join(match["braced"] or match["one"] or "" for match in _EXPONENT.finditer(text))


def _power(text: str) -> int:
    """Return a bound of the largest exponent after nested powers are multiplied out."""
    nested, largest = 1, 1
    for match in _EXPONENT.finditer(text):
        numbers = re.findall(r"[0-9]+", match["braced"] or match["one"] or "")
        size = math.prod(int(number) for number in numbers if int(number) > 1)
        nested, largest = (nested * size, largest) if match["group"] else (nested, max(largest, size))
    return nested * largest
