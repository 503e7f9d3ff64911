"""Counts words, sentences, paragraphs and list items of a text."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w[\w'\u2019-]*")
_END = re.compile(
    r"""(?P<dots>\.+)[)\]"'\u201d\u2019*_]*(?=\s+[^\sa-z]|\s*\Z)   # before what may begin a sentence, or at the end
    | [!?]+[)\]"'\u201d\u2019*_]*(?=\s|\Z)
    | [\u3002\uff01\uff1f]+""",
    re.VERBOSE,
)
_NO_END = re.compile(
    r"(?:^|[\s(])(?:(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|cf|No|Fig|approx|e\.g|i\.e|al|U\.S)|[A-Z]|\d{1,3})$", re.IGNORECASE
)
"""A dot after these does not end a sentence: abbreviations, initials, and the number of a list item."""
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_BULLET = re.compile(r"^[ \t]*[-*+\u2022][ \t]+\S.*$", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*\d{1,3}[.)][ \t]+\S.*$", re.MULTILINE)


def words(text: str) -> int:
    """Count the words; `isn't` and `well-known` are one word each."""
    return len(_WORD.findall(text))


def sentences(text: str) -> int:
    """Count the sentences. A dot in a number, in an address or after an abbreviation does not end a sentence."""
    count, start = 0, 0
    for end in _END.finditer(text):
        sentence = text[start : end.start()]
        if end["dots"] == "." and _NO_END.search(sentence):
            continue
        count += _has_word(sentence)
        start = end.end()
    return count + _has_word(text[start:])


def paragraphs(text: str) -> int:
    """Count the paragraphs, which empty lines separate."""
    return sum(map(_has_word, _BLANK_LINE.split(text)))


def bullets(text: str) -> int:
    """Count the lines that begin with `-`, `*`, `+` or a bullet and have a text."""
    return sum(map(_has_word, _BULLET.findall(text)))


def list_items(text: str) -> int:
    """Count the bullets and the lines that begin with a number, as `1.` or `1)`."""
    return bullets(text) + sum(_has_word(re.sub(r"^\s*\d+", "", line)) for line in _NUMBERED.findall(text))


def _has_word(text: str) -> bool:
    return any(map(str.isalnum, text))
