"""Converts overrides from Python (texts and mappings) to arguments of the command line."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from rft.errors import ConfigError

Overrides = str | Mapping[str, Any]
"""`"loop.steps=20"`, or `{"loop.steps": 20, "graders": {"correct": {"use": "exact"}}}`."""


def to_words(overrides: Sequence[object]) -> list[str]:
    """Write overrides as arguments of the command line.

    Nested mappings become dotted keys, so they change only the keys that they name. None is `null`, and a path is its
    text.

    Args:
        overrides: `Overrides`; texts stay as they are.

    Raises:
        ConfigError: Overrides contain options of the command line, or values that a configuration cannot contain.

    Example:
        to_words(["experiment=quickstart", {"loop": {"steps": 20}}])  # ["experiment=quickstart", "loop.steps=20"]
    """
    words: list[str] = []
    problems: list[str] = []
    for override in overrides:
        if isinstance(override, str):
            words.append(override)
            if override.startswith("-"):
                problems.append(f"{override}: options belong to the command line; give key=value or a mapping")
        elif isinstance(override, Mapping):
            words += _words(override, "", problems)
        else:
            problems.append(f"{override!r}: an override is a string (key=value) or a mapping, not {_type(override)}")
    if problems:
        raise ConfigError("configuration", problems)
    return words


def _words(values: Mapping[str, Any], prefix: str, problems: list[str]) -> Iterator[str]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _words(value, f"{key}.", problems)
            continue
        try:
            yield f"{key}={_literal(value)}"
        except TypeError as error:
            problems.append(f"{key}: {error}")


def _literal(value: Any) -> str:
    """Write a value in Hydra's grammar.

    Raises:
        TypeError: The grammar cannot express the value.
    """
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return str(int(value))
        case float():
            return repr(float(value)) if math.isfinite(value) else str(float(value))
        case str():
            return str(value) if _is_plain(value) else QuotedString(str(value), Quote.single).with_quotes()
        case os.PathLike():
            return _literal(os.fspath(value))
        case list() | tuple():
            return f"[{','.join(map(_literal, value))}]"
        case Mapping():
            return f"{{{','.join(f'{name}:{_literal(inner)}' for name, inner in value.items())}}}"
    what = "a function; write it into a file and give its name, as my_graders.py:correct" if callable(value) else ""
    raise TypeError(f"a configuration cannot hold {what or _type(value)}")


def _is_plain(text: str) -> bool:
    """Whether the grammar reads a text unchanged, such as the name of a preset."""
    return text.isascii() and text.isidentifier() and text.lower() not in ("null", "true", "false", "nan", "inf")


def _type(value: object) -> str:
    return f"a value of type {type(value).__name__}"
