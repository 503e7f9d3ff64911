"""Binds a grader's parameters, by name and once at loading, to the arguments that rft passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PER_COMPLETION = ("completion", "task", "rollout")
"""`completion` is the text (str), `task` the `Task`, `rollout` the `Rollout` with its tokens and its stop reason."""

PER_GROUP = ("completions", "task", "rollouts")
"""`completions` and `rollouts` are lists, in order of index; `task` is the `Task` that they share."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A grader with its options filled in.

    Example:
        Binding(call=concise, takes=("completion",), per_group=False)
    """

    call: Callable[..., Any]
    """The function, called with arguments by name; a coroutine function where the grader is async."""
    takes: tuple[str, ...]
    """Names of the arguments, from `PER_COMPLETION` or `PER_GROUP`."""
    per_group: bool
    """Whether one call grades a whole group."""


def bind(call: Callable[..., Any], *, per_group: bool) -> tuple[tuple[str, ...], list[str]]:
    """Return the arguments that a grader takes, and the problems of its parameters.

    Args:
        call: The grader with its options filled in.
        per_group: Whether one call grades a whole group.

    Returns:
        The names of the arguments, and the problems as sentences.
    """
    pool = PER_GROUP if per_group else PER_COMPLETION
    takes: list[str] = []
    problems: list[str] = []
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return pool, problems
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if name in pool and parameter.kind is not parameter.POSITIONAL_ONLY:
            takes.append(name)
        elif parameter.default is parameter.empty:
            problems.append(f"parameter '{name}' cannot be filled; {_advice(name, pool)}")
    return tuple(takes), problems


def option_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function grader that the configuration may set, by name."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in (*PER_COMPLETION, *PER_GROUP)
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _advice(name: str, pool: tuple[str, ...]) -> str:
    available = f"rft passes {', '.join(pool)} by name"
    if name in PER_GROUP:
        return f"{available}; to grade whole groups, mark the grader as per_group"
    if name in PER_COMPLETION:
        return f"{available}; the grader is marked as per_group"
    return f"{available}; give '{name}' a default"
