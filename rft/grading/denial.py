"""Detects denials: the 42 in "it is not 42" is not an answer of 42."""

from __future__ import annotations

import re

WINDOW = 120
"""Number of characters before and after the place."""

_MARKUP = r"[\s*_`\"'(\[{$]|\\[(\[]"
_FILLER = (
    r"be|been|being|equals?|to|the|a|an|as|just|simply|exactly|really|actually|in fact|of course|final|correct|right"
    r"|true|answer|value|number|result|option|choice|solution|approximately|about|around|quite|necessarily|clearly|even|yet"
)
_NOT = r"\b(?:not|never|cannot|neither|nor|no longer)\b|n['\u2019]t\b|\\neq?(?![A-Za-z])|\u2260|!="
_BEFORE = re.compile(rf"(?:{_NOT})(?:{_MARKUP}|,?\s*\b(?:{_FILLER})\b,?|\bonly\b(?!.*\bbut\b))*$", re.IGNORECASE)
"""A negation, with only filler words between it and the place."""
_COPULA_BEFORE = re.compile(
    rf"\b(?:(?:is|are|was|were)(?:\s+(?:not|never)\b|n['\u2019]t\b)|answer\W+(?:can|could|must|should|may)\s*(?:not|n['\u2019]t))"
    rf"(?:{_MARKUP}|,?\s*\b(?:{_FILLER})\b,?)*$",
    re.IGNORECASE,
)
_CLAUSE_BEFORE = re.compile(
    r"(?:\b(?:not|never)|n['\u2019]t)\s+(?:true|the case|correct|right|think|believe|say|claim|mean|agree)\b"
    r"|\b(?:doubt|(?:wrong|false|incorrect) (?:to|that))\b",
    re.IGNORECASE,
)
"""A denial of the whole clause after it."""
_TURN = re.compile(r"\b(?:but|so|thus|hence|therefore|instead|rather|because|since)\b", re.IGNORECASE)
_HINT = re.compile(
    r"n[o\'\u2019]|never|neither|\\ne|\u2260|!=|doubt|wrong|incorrect|false|impossible|ruled", re.IGNORECASE
)
"""A text without any of these words has no denial; a plain search spares most texts the patterns."""
_AFTER = re.compile(
    r"(?:[\s*_`\"')\]}$]|\\[)\]])*,?\s*(?:is|are|was|were|would be|seems?)\s*"
    r"(?:(?:definitely|clearly|also|simply|just)\s+)?"
    r"(?:wrong|incorrect|false|impossible|ruled out|(?:not|n['\u2019]t)\s*"
    r"(?:(?:the|a|an|my|our)\s+(?:\w+\s+)?(?:answer|solution|option|choice|one|result)\b|what\b|it\b|correct|right|possible|valid|true|[.!]?$))",
    re.IGNORECASE,
)


def is_denied(text: str, start: int, end: int | None = None, *, boxed: bool = False) -> bool:
    r"""Return whether a text denies the value at a place.

    Denials are "it is not N", "it isn't equal to N", "not N", "I do not think that it is N" and "N is wrong". The text
    "the number that do not fit is N" does not deny N: the negation belongs to another word.

    Args:
        text: The text.
        start: The beginning of the value.
        end: The end of the value; None ignores the words after it.
        boxed: Whether the value is a `\boxed{}`. A box states an answer, so only "is not \boxed{N}" denies it.
    """
    if not _HINT.search(text, max(0, start - WINDOW), (start if end is None else end) + WINDOW):
        return False
    before = re.split(r"[.;!?](?=\s)|\n|\u3002", text[max(0, start - WINDOW) : start])[-1]
    if (_COPULA_BEFORE if boxed else _BEFORE).search(before):
        return True
    claim = max((match.end() for match in _CLAUSE_BEFORE.finditer(before)), default=None)
    if claim is not None and not _TURN.search(before, claim):
        return True
    return end is not None and _AFTER.match(text, end, min(len(text), end + WINDOW)) is not None
