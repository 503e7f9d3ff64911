"""The settings of tools."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from rft.config.fields import Positive, PositiveSeconds, Section


class ToolConfig(Section):
    """A tool, or a source of several, that the policy may call. See docs/environments.md."""

    use: str | None = None
    """A function of yours, such as `my_tools.py:add`, or a class whose public methods are tools."""
    options: dict[str, Any] = {}
    """Further arguments of the function or class, by name, which the model does not see."""
    timeout_s: PositiveSeconds = 30.0
    """Seconds allowed for one call."""
    max_result_tokens: Positive = 1024
    """Longest result, in tokens; a longer one loses its middle."""


def _named(tools: dict[str, ToolConfig]) -> dict[str, ToolConfig]:
    """Refuse names that models cannot write."""
    for name in tools:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise PydanticCustomError("tool_name", f"should have names of letters, digits, _ and -, not {name!r}")
    return tools


Tools = Annotated[dict[str, ToolConfig], AfterValidator(_named)]
