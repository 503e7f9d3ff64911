"""Around another system's reward function: find its style, pass it what it expects, read what it returns."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import contains
from types import CodeType
from typing import Any

from rft.grading.contract import OWN, is_per_group
from rft.grading.foreign.styles.parsers import PARSERS, named_parser
from rft.grading.foreign.styles.payloads import Graded
from rft.grading.foreign.styles.table import STYLES, Style
from rft.grading.loading.binding import PER_COMPLETION, PER_GROUP, bind
from rft.grading.loading.targets import did_you_mean
from rft.types import Task

TEXT_NAMES = ("text", "output", "generation", "prediction", "string", "s")
"""What functions of one text call it; another name, as `language` in a factory, tells nothing."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """A reward function that can be called as a grader of rft's."""

    call: Callable[..., Any]
    """Takes rft's own arguments by name; a coroutine function where the function is one."""
    takes: tuple[str, ...]
    """Which of them."""
    per_group: bool
    """Whether one call grades a group."""
    style: str
    """The style that it was found to have, or was given."""


def adapt(target: object, style: str | None, *, parser: str | None = None) -> Adapted:
    """Make a grader of a reward function as it stands.

    Args:
        target: The function; also a scorer or a factory of scorers of inspect_ai's, or an object with `score_answer`.
        style: A key of `STYLES`, or "rft"; None to tell by the parameters' names.
        parser: Of a verifiers function, the parser of its environment, one of `PARSERS`; None takes the one that its
            file holds under the name `parser`.

    Raises:
        ValueError: There is no such style, the style cannot be told, or the function asks for what the style lacks.
            The message says how to choose.
    """
    function = _function(target)
    if style is not None and style != OWN and style not in STYLES:
        raise ValueError(f"there is no style '{style}'; there are {', '.join([OWN, *STYLES])}")
    name = style or _told_style(function)
    if name == OWN:
        per_group = is_per_group(_undressed(function))
        takes, problems = bind(function, per_group=per_group)
        if problems:
            raise ValueError("; ".join(problems))
        return Adapted(function, takes, per_group, OWN)
    chosen = STYLES[name]
    problem = _problem(function, chosen)
    if problem is not None:
        raise ValueError(f"style '{name}' is {chosen.signature}: {problem}")
    takes = PER_GROUP if chosen.per_group else PER_COMPLETION
    takes = takes if chosen.needs_rollout else takes[:2]
    if "parser" in chosen.names:
        chosen = replace(chosen, payload=partial(_with_parser, chosen.payload, _parser_for(function, parser)))
    elif parser is not None:
        raise ValueError(f"only functions of verifiers have a parser, and this one has the style '{name}'")
    return Adapted(_caller(function, chosen), takes, chosen.per_group, name)


def _parser_for(function: Callable[..., Any], name: str | None) -> Any:
    """Return the parser that is meant; None where the function asks for none."""
    if name is not None:
        return named_parser(name)
    if "parser" not in inspect.signature(function).parameters:
        return None
    module = sys.modules.get(getattr(_undressed(function), "__module__", ""))
    parser = getattr(module, "parser", None)
    if parser is None:
        raise ValueError(
            "the function asks for the parser of its environment; say which one with parser=..., one of "
            f"{', '.join(PARSERS)}, or assign one to the name 'parser' in its file"
        )
    return parser


def _with_parser(payload: Callable[[Graded], Mapping[str, Any]], parser: Any, graded: Graded) -> Mapping[str, Any]:
    return {**payload(graded), "parser": parser}


def _function(target: object) -> Callable[..., Any]:
    """Return what is called: the target, its `score_answer`, or the scorer that a factory of inspect_ai's makes."""
    function: Any = getattr(target, "score_answer", target)
    if not callable(function) or inspect.isclass(function):
        kind = "a class" if inspect.isclass(target) else f"of type {type(target).__name__}"
        raise ValueError(f"that is {kind}; a reward function is a function, or an object with a method 'score_answer'")
    registered = getattr(getattr(function, "func", function), "__registry_info__", None)
    if getattr(registered, "type", None) == "scorer" and not _is_coroutine_function(function):
        function = function()
    return function  # type: ignore[no-any-return]


def _told_style(function: Callable[..., Any]) -> str:
    """Return the one style whose names a function's parameters are; an option that is set tells nothing."""
    options = getattr(function, "keywords", {})
    parameters = {name: one for name, one in inspect.signature(function).parameters.items() if name not in options}
    required = [name for name, one in parameters.items() if one.default is one.empty and not _is_variadic(one)]
    if not parameters or is_per_group(_undressed(function)):
        return OWN
    fitting = [name for name, style in STYLES.items() if _is_marked(style, parameters)]
    fitting = [name for name in fitting if _problem(function, STYLES[name]) is None]
    if {"trl", "trl_chat"} <= set(fitting):
        fitting.remove("trl" if _mentions(function, "content") else "trl_chat")
    is_ours = set(required) <= set(PER_COMPLETION) and any(name in parameters for name in PER_COMPLETION)
    to_fill = {name for name, one in parameters.items() if one.default is None} - set(PER_COMPLETION)
    if fitting and to_fill & {name for style in fitting for name in STYLES[style].names}:
        is_ours = False  # `answer=None` waits for what only the other system passes; an option has a value
    if is_ours or {"task"} < set(required) <= set(PER_GROUP):  # these would be ours if they were marked as per_group
        fitting.insert(0, OWN)
    elif len(required) == 1 and required[0] in TEXT_NAMES and not fitting:
        return "plain"
    if len(fitting) == 1:
        return fitting[0]
    shown = ", ".join(parameters) or "(none)"
    if fitting:
        candidates = [f"{name} ({STYLES[name].signature})" if name in STYLES else name for name in fitting]
        raise ValueError(
            f"more than one style fits the parameters {shown}; say whose function it is with style=..., one of: "
            f"{', '.join(candidates)}"
        )
    unknown = [name for name in required if name not in PER_COMPLETION]
    near = did_you_mean(unknown[0], PER_COMPLETION) if len(unknown) == 1 else ""
    raise ValueError(
        f"no style fits the parameters {shown}. rft passes {', '.join(PER_COMPLETION)} by name"
        + (f", and not {', '.join(unknown)}{near}; give it a default, or a value in the entry" if unknown else "")
        + f". If it is another system's function, say whose with style=..., one of: {', '.join([OWN, *STYLES])}"
    )


def _is_marked(style: Style, parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether the names tell a style; where arguments are passed in order, they must stand in that order."""
    if style.positional:
        told = len(parameters) >= len(style.marks) and all(map(contains, style.marks, parameters))
    else:
        takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        names = {*parameters, "**"} if takes_all else set(parameters)
        told = all(names.intersection(alternatives) for alternatives in style.marks)
    return bool(style.marks) and told and not any(name in parameters for name in style.excludes)


def _problem(function: Callable[..., Any], style: Style) -> str | None:
    """Return why a function cannot be called in a style, or None. What is a column is not known before the task is."""
    parameters = inspect.signature(function).parameters.values()
    if style.positional:
        try:
            inspect.signature(function).bind(*style.names)
        except TypeError as error:
            return f"{error}; it is passed {len(style.names)} arguments in this order"
        return None
    required = [one.name for one in parameters if one.default is one.empty and not _is_variadic(one)]
    unknown = [name for name in required if name not in style.names]
    if unknown and not style.columns:
        return f"nothing is there to pass as {', '.join(unknown)}"
    if not any(one.name in style.names or one.kind is one.VAR_KEYWORD for one in parameters):
        return f"the function takes none of {', '.join(style.names)}"
    return None


def _caller(function: Callable[..., Any], style: Style) -> Callable[..., Any]:
    """Return what is called with rft's arguments, by name."""

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
    """Choose from the payload what the function takes.

    Raises:
        LookupError: It needs what the task does not have.
    """
    payload = style.payload(graded)
    if style.positional:
        _require(style.names, payload, graded.task)
        return [payload[name] for name in style.names], {}
    parameters = inspect.signature(function).parameters.values()
    required = [one.name for one in parameters if one.default is one.empty and not _is_variadic(one)]
    _require(required, payload, graded.task)
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
    named = set(payload) if takes_all else {one.name for one in parameters} & set(payload)
    options = getattr(function, "keywords", {})  # of a partial: what the configuration sets
    return [], {name: payload[name] for name in named - set(options)}


def _require(names: Sequence[str], payload: Mapping[str, Any], task: Task) -> None:
    missing = [name for name in names if name not in payload]
    if "completion_ids" in missing:
        raise LookupError(
            "nothing is there to pass as completion_ids: the recorded completion came without its tokens; a column "
            "num_completion_tokens makes up for their number"
        )
    if missing:
        columns = ", ".join(task.item) or "none"
        raise LookupError(f"nothing is there to pass as {', '.join(missing)}; task {task.id} has the columns {columns}")


def _mentions(function: Any, constant: str, seen: frozenset[int] = frozenset()) -> bool:
    """Whether a text constant stands in a function's code or in that of a helper, as `content` in one of messages."""
    function = _undressed(function)
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        function = vars(type(function)).get("__call__")
    code = getattr(function, "__code__", None)
    if code is None or id(code) in seen:
        return False
    if _holds(code, constant):
        return True
    known = getattr(function, "__globals__", {})
    helpers = [known[name] for name in _names_in(code) if inspect.isfunction(known.get(name))]
    return any(_mentions(helper, constant, seen | {id(code)}) for helper in helpers)


def _names_in(code: CodeType) -> set[str]:
    """The global names that some code uses, that of nested functions included."""
    inner = (_names_in(one) for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*inner)


def _undressed(function: Any) -> Any:
    """Return a function without the options that are filled in, and without its decorators."""
    return inspect.unwrap(getattr(function, "func", function))


def _holds(code: CodeType, constant: str) -> bool:
    return any(_holds(one, constant) if isinstance(one, CodeType) else one == constant for one in code.co_consts)


def _is_variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _is_coroutine_function(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
