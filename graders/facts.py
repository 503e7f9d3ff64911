"""Reads the numbers, dates and names of a text, in a form in which they can be compared."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_MONTHS = (
    "Jan(?:uary)?", "Feb(?:ruary)?", "Mar(?:ch)?", "Apr(?:il)?", "May", "June?", "July?", "Aug(?:ust)?",
    "Sept?(?:ember)?", "Oct(?:ober)?", "Nov(?:ember)?", "Dec(?:ember)?",
)  # fmt: skip
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})\b\.?"
_DAY, _YEAR = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?", r"(?P<year>\d{4})"
_DATES = (
    re.compile(r"\b(?P<year>\d{4})-(?P<number>\d{2})-(?P<day>\d{2})\b", re.ASCII),
    re.compile(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR}\b)?", re.ASCII),
    re.compile(rf"\b{_MONTH}\s+{_DAY}\b(?:,?\s+{_YEAR}\b)?", re.ASCII),
    re.compile(rf"\b{_MONTH}\s+{_YEAR}\b", re.ASCII),
    re.compile(rf"\b{_MONTH}", re.ASCII),
)
"""Forms of a date, the most complete first."""
_NUMBER = re.compile(r"\d+(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?")
_UP_TO_TWENTY = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_UP_TO_TWENTY.split(), start=2)} | {
    word: str(10 * number) for number, word in enumerate(_TENS.split(), start=3)
}
_ONE = {"one": "1", "once": "1", "twice": "2"}
"""Words that a passage may give a number with. In an answer, "one of them" is none."""
_WORD = re.compile(r"\w+")
_NEW_SENTENCE = re.compile(r"(?:^|[.!?:;\n])[\s\"'\u201c(*_#>-]*$")
_SEARCHED_CHARS = 20
_PRONOUN = frozenset({"I"})

Date = tuple[str | None, int, str | None]
"""Year, month and day; the year or the day may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of a text.

    Example:
        Facts(numbers=frozenset({"7", "0.5"}), dates=frozenset({("2026", 3, "1")}), names=("Vanda",))
    """

    numbers: frozenset[str]
    """Numbers without commas, leading zeros and zeros at the end of a fraction."""
    dates: frozenset[Date]
    """Dates, and months."""
    names: tuple[str, ...]
    """Words with a capital letter inside a sentence, and words in capital letters."""


def facts_of(text: str, *, is_source: bool = False) -> Facts:
    """Return the facts of a text.

    Args:
        text: The text.
        is_source: Whether the text supports an answer; then "once" and "one" are numbers too.
    """
    dates: set[Date] = set()
    rest = text
    for pattern in _DATES:
        dates.update(_date(match) for match in pattern.finditer(rest) if not _is_verb(rest, match))
        rest = pattern.sub(_blank, rest)
    words = _NUMBER_WORDS | (_ONE if is_source else {})
    numbers = {_plain(match[0]) for match in _NUMBER.finditer(rest)}
    numbers |= {words[word] for word in map(str.casefold, _WORD.findall(rest)) if word in words}
    if is_source:  # a year or a day of a date may be named alone
        numbers |= {_plain(part) for date in dates for part in (date[0], date[2]) if part}
    return Facts(numbers=frozenset(numbers), dates=frozenset(dates), names=tuple(_names(rest)))


def is_known_date(date: Date, known: frozenset[Date]) -> bool:
    """Whether one of the known dates agrees in all parts that a date names."""
    return any(all(part is None or part == other for part, other in zip(date, one, strict=True)) for one in known)


def _blank(match: re.Match[str]) -> str:
    """Return blanks in place of a date; the full stop after a month that is written in full ends its sentence."""
    is_end = match[0].endswith(".") and re.fullmatch(r"May|June|July|[A-Z][a-z]{4,}", match["month"]) is not None
    return " " * (len(match[0]) - is_end) + "." * is_end


def _date(match: re.Match[str]) -> Date:
    parts = match.groupdict()
    month = parts.get("month")
    number = (
        int(parts["number"])
        if month is None
        else 1 + next(place for place, pattern in enumerate(_MONTHS) if re.fullmatch(pattern, month))
    )
    return parts.get("year"), number, parts["day"].lstrip("0") if parts.get("day") else None


def _is_verb(text: str, match: re.Match[str]) -> bool:
    """Whether a month is rather a verb at the beginning of a sentence: "May I water it?"."""
    return match[0] in ("May", "March") and _begins_sentence(text, match.start())


def _begins_sentence(text: str, place: int) -> bool:
    return _NEW_SENTENCE.search(text, max(0, place - _SEARCHED_CHARS), place) is not None


def _plain(number: str) -> str:
    """Return a number in ASCII digits, without commas and zeros that change nothing."""
    digits = "".join(str(unicodedata.digit(char)) if char.isdecimal() else char for char in number if char != ",")
    whole, point, fraction = digits.partition(".")
    fraction = fraction.rstrip("0")
    return (whole.lstrip("0") or "0") + (point + fraction if fraction else "")


def _names(text: str) -> list[str]:
    names = []
    for match in _WORD.finditer(text):
        word = match[0]
        is_capitalised = word[0].isupper() and len(word) > 1 and word not in _PRONOUN
        if is_capitalised and (word.isupper() or not _begins_sentence(text, match.start())):
            names.append(word)
    return names
