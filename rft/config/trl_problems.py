"""Checks `learner.trl` for unknown options, wrong types, and options without effect."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from rft.config.trl_options import TrlOption, trl_options
from rft.config.trl_support import PASSED_ON, SET_BY_RFT, WITHOUT_EFFECT
from rft.imports import is_installed
from rft.redaction.secret import is_secret

_TYPE_NAMES = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string"}
_TYPE_NAMES |= {"list": "a list", "dict": "a mapping", "None": "null"}


class Need(NamedTuple):
    """The condition for an option of TRL to have an effect."""

    is_met: bool
    words: str
    """The requirement, as in "this takes effect only <words>"."""


def trl_problems(
    trl: Mapping[str, Any], *, needs: Mapping[str, Need], keys: Collection[str], instead: Mapping[str, str]
) -> list[str]:
    """Return the problems of TRL's options, one sentence each. Types of values are checked only if TRL is installed.

    Args:
        trl: The options.
        needs: Conditions of options, by name or by prefix (`hub_*`); a full name takes precedence.
        keys: The learner's own keys.
        instead: Keys that replace options of TRL, if their names differ from those in `SET_BY_RFT`.
    """
    known = trl_options() if is_installed("trl") else None
    problems = []
    for name, value in trl.items():
        given = f"learner.trl.{name}={value}"
        if name in SET_BY_RFT:
            problems.append(f"{given}: rft sets this itself; use {instead.get(name) or _replacement(name, keys)}")
        elif value is not None and is_secret(name, value):
            problems.append(f"learner.trl.{name}: TRL writes its options into the checkpoints; set HF_TOKEN instead")
        elif name in WITHOUT_EFFECT:
            problems.append(f"{given}: this has no effect in rft: {WITHOUT_EFFECT[name]}")
        elif name not in (known or PASSED_ON):
            near = difflib.get_close_matches(name, known or PASSED_ON, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            problems.append(f"learner.trl.{name} is unknown; {hint}Allowed are the fields of TRL's GRPOConfig")
        elif known is not None and not _fits(value, known[name]):
            problems.append(f"{given}: should be {_allowed(known[name])}")
        elif (need := _need(name, needs)) is not None and not need.is_met:
            problems.append(f"{given}: this takes effect only {need.words}")
    return problems


def _replacement(name: str, keys: Collection[str]) -> str:
    """Return the key to use instead of a TRL option; if the learner lacks the key, the learner that has it."""
    key = SET_BY_RFT[name]
    section, _, field = key.partition(".")
    return f"learner=grpo, which has {key}" if section == "learner" and field not in keys else key


def _need(name: str, needs: Mapping[str, Need]) -> Need | None:
    beginnings = (need for key, need in needs.items() if key.endswith("*") and name.startswith(key[:-1]))
    return needs[name] if name in needs else next(beginnings, None)


def _fits(value: Any, option: TrlOption) -> bool:
    """Whether an option may have this value. An integer is a number, and 0 and 1 are booleans."""
    types = option.types
    match value:
        case None:
            return "None" in types
        case bool():
            return "bool" in types
        case str():
            return "str" in types and (not option.choices or value in option.choices)
        case int():
            return bool(types & {"int", "float"}) or ("bool" in types and value in (0, 1))
        case float():
            return "float" in types
    return type(value).__name__ in types


def _allowed(option: TrlOption) -> str:
    if option.choices:
        return f"one of {', '.join(option.choices)}"
    return " or ".join(name for kind, name in _TYPE_NAMES.items() if kind in option.types)
