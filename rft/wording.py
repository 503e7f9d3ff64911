"""Words of messages: counts with their nouns, and what a value should be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping of names to values",
}
"""The expected kind of value, by the beginning of the type of pydantic's error."""
_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "greater than",
    "less_than_equal": "at most",
    "less_than": "less than",
}
"""The expected bound, by the type of pydantic's error."""


def plural(number: int, noun: str) -> str:
    """Return a count with its noun, which takes an s in the plural.

    Example:
        plural(1, "task"), plural(2000, "task")  # "1 task", "2,000 tasks"
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: `a`, `a and b`, `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def expectation(error: Mapping[str, Any]) -> str:
    """Return what a value should be, without the terms of pydantic.

    Args:
        error: An item of pydantic's `ValidationError.errors()`.

    Example:
        expectation({"type": "int_parsing", "msg": "Input should be a valid integer, ..."})
        # "should be a whole number"
    """
    kind = next((name for name in _KINDS if error["type"].startswith(name)), None)
    if kind is not None:
        return f"should be {_KINDS[kind]}"
    if error["type"] in _BOUNDS:
        (bound,) = error["ctx"].values()
        return f"should be {_BOUNDS[error['type']]} {bound:g}"
    if error["type"] == "unexpected_keyword_argument":
        return f"should not have '{error['loc'][-1]}'"
    message = re.sub("^(Input|String|List|Dictionary) should ", "should ", str(error["msg"]))
    return message[:1].lower() + message[1:]
