"""Templates: `{{ item.x }}` and `{{ sample.output_tools[0].function.arguments }}` in a text, rendered in one pass.

Values are never parsed as templates, whatever a completion or a task contains. Values are rendered as

    text                  unchanged
    object, list          JSON without spaces, keys in their order, letters of all alphabets unescaped
    number, true, null    JSON: 1, 0.5, true, null

A missing variable is an `invalid_variable_error`; a field of the sample that is null counts as missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rft.grading.foreign.openai_spec.faults import Fault, Flag, SpecError
from rft.types import Status

SAMPLE_FIELDS = ("output_text", "output_json", "output_tools", "choices", "output_audio")
"""Fields of a sample."""

_NAME = r"[^\s.\[\]{}'\"]+"
_VARIABLE = re.compile(rf"{_NAME}(?:\.{_NAME}|\[[0-9]{{1,9}}\])*")
_STEP = re.compile(rf"\[([0-9]+)\]|({_NAME})")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a template: `("sample", "output_tools", 0, "function")`."""

    path: tuple[str | int, ...]

    def __str__(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path[1:])
        return f"{self.path[0]}{''.join(steps)}"


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed text with variables.

    Example:
        Template.parse("{{ item.question }} Answer: {{ sample.output_text }}")
    """

    source: str
    """The unchanged text."""
    parts: tuple[str | Variable, ...]
    """Literal texts and variables, in order."""

    @classmethod
    def parse(cls, source: str) -> Template:
        """Parse a template.

        Raises:
            SpecError: A part is not a variable; the message lists all problems.
        """
        parts: list[str | Variable] = []
        problems: list[str] = []
        end = 0
        while (start := source.find("{{", end)) >= 0:
            parts.append(source[end:start])
            close = source.find("}}", start)
            if close < 0:
                problems.append(f"'{source[start : start + 40]}' at character {start} is not closed with '}}}}'")
                break
            end = close + 2
            variable, problem = _variable(source[start + 2 : close].strip())
            parts.append(variable)
            if problem:
                problems.append(f"'{source[start:end][:80]}' at character {start}: {problem}")
        else:
            parts.append(source[end:])
        if problems:
            raise SpecError(problems)
        return cls(source, tuple(part for part in parts if part != ""))

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables, in order."""
        return tuple(part for part in self.parts if isinstance(part, Variable))

    @property
    def uses_sample(self) -> bool:
        """Whether the rendered text depends on the completion."""
        return any(variable.path[0] == "sample" for variable in self.variables)

    def render(self, sample: Mapping[str, Any], item: Mapping[str, Any]) -> str:
        """Render the template.

        Raises:
            Fault: A variable is missing; a fault of the model if the completion could have contained it.
        """
        namespaces = {"sample": sample, "item": item}
        return "".join(part if isinstance(part, str) else _text(_look_up(part, namespaces)) for part in self.parts)


def _variable(text: str) -> tuple[Variable, str | None]:
    """Parse the text between the braces; return the variable and None, or None and the problem."""
    if not _VARIABLE.fullmatch(text):
        return (
            Variable(()),
            "not a variable; write one as {{ item.answer }} or {{ sample.output_tools[0].function.name }}",
        )
    path = tuple(int(index) if index else name for index, name in _STEP.findall(text))
    problem = None
    if path[0] not in ("item", "sample"):
        problem = f"'{path[0]}' is unknown; variables begin with 'item.' or 'sample.'"
    elif len(path) == 1 or isinstance(path[1], int):
        problem = f"'{path[0]}' needs a field, as {path[0]}.{'answer' if path[0] == 'item' else 'output_text'}"
    elif path[0] == "sample" and path[1] not in SAMPLE_FIELDS:
        problem = f"a sample has no '{path[1]}'; its fields are {', '.join(SAMPLE_FIELDS)}"
    elif path[:2] == ("sample", "output_text") and len(path) > 2:
        problem = "output_text is a text without fields; for the answer as JSON use sample.output_json"
    return Variable(path), problem


def _look_up(variable: Variable, namespaces: Mapping[str, Any]) -> Any:
    value: Any = namespaces
    for depth, step in enumerate(variable.path):
        exists = (isinstance(step, str) and isinstance(value, Mapping) and step in value) or (
            isinstance(step, int) and isinstance(value, (list, tuple)) and step < len(value)
        )
        value = value[step] if exists else None
        if not exists or (value is None and depth == 1 and variable.path[0] == "sample"):
            raise Fault(Flag.INVALID_VARIABLE_ERROR, _missing(variable, depth), _to_blame(variable))
    return value


def _missing(variable: Variable, depth: int) -> str:
    return f"{{{{ {variable} }}}} is missing: {Variable(variable.path[: depth + 1])} does not exist"


def _to_blame(variable: Variable) -> Status:
    """Missing columns are a fault of the task, and no model here makes audio."""
    if variable.path[0] == "item" or variable.path[1] == "output_audio":
        return Status.GRADER_ERROR
    return Status.NO_ANSWER if variable.path[1] == "output_tools" else Status.INVALID_OUTPUT


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
