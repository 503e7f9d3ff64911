"""A reward function of another system as a grader: pass the arguments of its style, and unwrap its result."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rft.grading.contract import RFT_STYLE
from rft.grading.foreign.styles.parsers import PARSERS, named_parser
from rft.grading.foreign.styles.payloads import Graded
from rft.grading.foreign.styles.selection import call_problem, required_names, undecorated
from rft.grading.foreign.styles.table import STYLES, Style
from rft.grading.loading.binding import PER_COMPLETION, PER_GROUP, Binding
from rft.types import Task


def adapt(function: Callable[..., Any], style: str, *, parser: str | None = None) -> Binding:
    """Make a grader of an unchanged reward function.

    Args:
        function: The function or callable object.
        style: A key of `STYLES`.
        parser: For functions of verifiers, the parser of their environment, one of `PARSERS`. None takes the object
            that the function's file assigns to the name `parser`.

    Raises:
        ValueError: The style does not exist, or it cannot call the function.
    """
    if style not in STYLES:
        raise ValueError(f"there is no style '{style}'; the styles are {', '.join([RFT_STYLE, *STYLES])}")
    chosen = STYLES[style]
    problem = call_problem(function, chosen)
    if problem is not None:
        raise ValueError(f"style '{style}' calls {chosen.signature}: {problem}")
    pool = PER_GROUP if chosen.per_group else PER_COMPLETION
    takes = pool if chosen.needs_rollout else pool[:2]
    if "parser" in chosen.names:
        chosen = replace(chosen, payload=partial(_with_parser, chosen.payload, _parser_for(function, parser)))
    elif parser is not None:
        raise ValueError(f"only functions of verifiers have a parser; the style of this function is '{style}'")
    return Binding(_caller(function, chosen), takes, chosen.per_group)


def _parser_for(function: Callable[..., Any], name: str | None) -> Any:
    """Return the parser of a function's environment; None where the function has no parameter `parser`."""
    if name is not None:
        return named_parser(name)
    if "parser" not in inspect.signature(function).parameters:
        return None
    module = sys.modules.get(getattr(undecorated(function), "__module__", ""))
    parser = getattr(module, "parser", None)
    if parser is None:
        raise ValueError(
            "the function takes the parser of its environment; name the parser in the entry with `parser: ...`, one of "
            f"{', '.join(PARSERS)}, or assign a parser to the name 'parser' in the function's file"
        )
    return parser


def _with_parser(payload: Callable[[Graded], Mapping[str, Any]], parser: Any, graded: Graded) -> Mapping[str, Any]:
    return {**payload(graded), "parser": parser}


def _caller(function: Callable[..., Any], style: Style) -> Callable[..., Any]:
    """Return a function that takes rft's arguments by name; a coroutine function where the reward function is one."""

    def run(**pool: Any) -> Any:
        positional, named = _arguments(function, style, _graded(style, pool))
        result = function(*positional, **named)
        return _read_later(result, style) if inspect.isawaitable(result) else style.read(result)

    async def run_async(**pool: Any) -> Any:
        return await run(**pool)

    return run_async if _is_coroutine_function(function) else run


def _graded(style: Style, pool: Mapping[str, Any]) -> Graded:
    if style.per_group:
        return Graded(pool["task"], list(pool["completions"]), list(pool.get("rollouts", ())))
    return Graded(pool["task"], [pool["completion"]], [pool["rollout"]] if style.needs_rollout else [])


async def _read_later(result: Awaitable[Any], style: Style) -> Any:
    return style.read(await result)


def _arguments(function: Callable[..., Any], style: Style, graded: Graded) -> tuple[list[Any], dict[str, Any]]:
    """Select the function's arguments from the payload.

    Raises:
        LookupError: The task has no value for a required argument.
    """
    payload = style.payload(graded)
    if style.positional:
        _require(style.names, payload, graded.task)
        return [payload[name] for name in style.names], {}
    parameters = inspect.signature(function).parameters
    _require(required_names(parameters), payload, graded.task)
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    named = set(payload) if takes_all else set(parameters) & set(payload)
    options = getattr(function, "keywords", {})  # of a partial: the options that the entry sets
    return [], {name: payload[name] for name in named - set(options)}


def _require(names: Sequence[str], payload: Mapping[str, Any], task: Task) -> None:
    missing = [name for name in names if name not in payload]
    if "completion_ids" in missing:
        raise LookupError(
            "the recorded completion has no tokens to pass as completion_ids; a column num_completion_tokens supplies "
            "their number"
        )
    if missing:
        columns = ", ".join(task.item) or "none"
        raise LookupError(
            f"the task has no value for {', '.join(missing)}; the columns of task {task.id} are {columns}"
        )


def _is_coroutine_function(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
