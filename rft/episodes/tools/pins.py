"""Digests of the tools that the policy is told of, which tell whether they have changed.

Names, descriptions and schemas stand in the prompt. Those of an MCP server come from somebody else, so a run records
their digests, and refuses to go on with others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

Pins = Mapping[str, Mapping[str, str]]
"""Digests of the description and the parameters of each tool, by name."""


def pins_of(declarations: Sequence[Mapping[str, Any]]) -> Pins:
    """Return the digests of tools in OpenAI's format."""
    functions = [declaration["function"] for declaration in declarations]
    return {
        function["name"]: {part: _digest(function[part]) for part in ("description", "parameters")}
        for function in functions
    }


def changes(before: Pins, now: Pins) -> list[str]:
    """Return what has changed, as phrases such as `the description of 'search'`; empty if nothing has."""
    changed = [
        f"the {part} of '{name}'"
        for name in sorted(before.keys() & now.keys())
        for part in before[name]
        if before[name][part] != now[name].get(part)
    ]
    gone = [f"'{name}' is gone" for name in sorted(before.keys() - now.keys())]
    new = [f"'{name}' is new" for name in sorted(now.keys() - before.keys())]
    return changed + gone + new


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
