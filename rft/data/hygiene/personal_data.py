"""Finds personal data and secrets in texts by their form: mail, phone, payment card, IBAN, keys.

Cards and IBANs count only with a valid check digit. A phone number of digits alone looks like any number, so it counts
after an international prefix, after a word such as `call`, or in a field such as `phone`. Names and addresses have no
form that rules could find.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rft.redaction.secret import FORMS

_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,}(?![\w-])")
_CARD = re.compile(
    r"(?<![\d.,])[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\d]|[.,]\d)|(?<![\d.,])3[47]\d{2}[ -]?\d{6}[ -]?\d{5}(?!\d)"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_PHONE = re.compile(
    r"(?<![\w+.,-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4}"
    r"|00[1-9]\d{8,12}|00[1-9]\d{0,2}(?:[ .-]\d{1,4}){2,5})(?![\w-]|[.,]\d)"
)
_PHONE_WORDS = (
    *(
        "phone",
        "phones",
        "telephone",
        "tel",
        "mobile",
        "cell",
        "cellphone",
        "fax",
        "whatsapp",
        "call",
        "dial",
        "hotline",
    ),
    *("telefon", "handy", "mobil", "anrufen", "téléphone", "portable", "teléfono", "telefono", "móvil", "celular"),
)
_SAID = re.compile(
    rf"\b(?:{'|'.join(_PHONE_WORDS)})\b[.:=#]?(?:[\s:=#(\"'\[-]|\b(?:number|numéro|número|nummer|no|nr|num|is|at|on|ist|"
    r"est|es|me|us|him|her|them)\b\.?){0,8}(?P<number>\d{7,15}|\d{2,5}(?:[ ./-]\d{2,8}){1,5})(?![\w-]|[.,]\d)",
    re.IGNORECASE,
)
"""A number behind a word about phones, with at most a few words such as "number is" between them."""
_DIGITS = re.compile(r"(?<![\w.,+-])\d{7,15}(?![\w-]|[.,]\d)")
_NAME_PARTS = re.compile(r"[^\W\d_]+?(?=[A-Z][a-z]|[\W\d_]|$)")
"""The words of a field's name, such as `customer_phone` or `phoneNumber`."""


@dataclass(frozen=True, slots=True)
class Personal:
    """A piece of personal data.

    Example:
        Personal(kind="mail", start=6, end=23)
    """

    kind: str
    """`mail`, `phone`, `card`, `iban` or `key`."""
    start: int
    """Place of its first character in the text."""
    end: int
    """Place after its last character."""


def _has_luhn(text: str) -> bool:
    """Whether the last digit of a card number is its check digit (ISO/IEC 7812-1)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def _has_iban_check(text: str) -> bool:
    """Whether the check digits of an IBAN are right (ISO 13616): rearranged and read as a number, 1 modulo 97."""
    compact = text.replace(" ", "")
    return 15 <= len(compact) <= 34 and int("".join(str(int(one, 36)) for one in compact[4:] + compact[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    return 8 <= sum(character.isdigit() for character in text) <= 15


def _is_said_phone(text: str) -> bool:
    return 7 <= sum(character.isdigit() for character in text) <= 15


_RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("key", FORMS, lambda text: True),
    ("mail", _MAIL, lambda text: True),
    ("iban", _IBAN, _has_iban_check),
    ("card", _CARD, _has_luhn),
    ("phone", _PHONE, _is_phone),
    ("phone", _SAID, _is_said_phone),
)
"""Kinds in the order in which they claim characters: a card number is no phone number."""

KINDS = tuple(dict.fromkeys(kind for kind, _, _ in _RULES))
"""All kinds of personal data."""


def find_personal(text: str, *, field: str = "") -> list[Personal]:
    """Return all personal data of a text, in order, without overlaps.

    Args:
        text: The text.
        field: Name of the field that contains it; in one such as `phone`, digits alone are a phone number.
    """
    found: list[Personal] = []
    about_phones = {part.lower() for part in _NAME_PARTS.findall(field)} & {*_PHONE_WORDS}
    for kind, pattern, is_valid in (*_RULES, *([("phone", _DIGITS, _is_said_phone)] if about_phones else [])):
        found += [
            one
            for one in _matches(kind, pattern, text)
            if is_valid(text[one.start : one.end])
            and all(one.end <= other.start or other.end <= one.start for other in found)
        ]
    return sorted(found, key=lambda one: one.start)


def find_personal_in(content: Any) -> list[Personal]:
    """Return the personal data of all texts and whole numbers in plain values, names of fields included."""
    return [one for text, field in _texts(content, "") for one in find_personal(text, field=field)]


def _texts(content: Any, field: str) -> Iterator[tuple[str, str]]:
    """Yield every text and whole number, and the names of fields, each with the name of the field around it."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield str(name), ""
            yield from _texts(value, str(name))
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _texts(value, field)
    elif isinstance(content, (str, int)):
        yield str(content), field


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Personal]:
    group = "number" if "number" in pattern.groupindex else 0
    return (Personal(kind, *match.span(group)) for match in pattern.finditer(text))


def masked(text: str, *, field: str = "") -> str:
    """Return the text with `[mail]`, `[phone]` and so on in place of its personal data.

    The arguments are those of `find_personal`.
    """
    parts, end = [], 0
    for one in find_personal(text, field=field):
        parts += [text[end : one.start], f"[{one.kind}]"]
        end = one.end
    return "".join([*parts, text[end:]])


def with_masks(content: Any, *, field: str = "") -> Any:
    """Return plain values with the personal data of all texts masked; a whole number such as a card becomes a text.

    Args:
        content: The values.
        field: Name of the field that contains them.
    """
    if isinstance(content, str):
        return masked(content, field=field)
    if isinstance(content, int):
        return masked(str(content), field=field) if find_personal(str(content), field=field) else content
    if isinstance(content, Mapping):
        return {name: with_masks(value, field=str(name)) for name, value in content.items()}
    return [with_masks(value, field=field) for value in content] if isinstance(content, (list, tuple)) else content
