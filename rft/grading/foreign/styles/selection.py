"""The choice of a style for a function whose entry has none.

Parameter names never decide between two styles. A file that imports a system's package, for a base class, a decorator,
a type or anything else, declares that system's styles: those whose names begin with the package's name. A declared
style that fits the function is taken. Without a declaration exactly one style must fit, rft's own among them; otherwise
the entry must name the style.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from operator import contains
from pathlib import Path
from typing import Any

from rft.grading.contract import RFT_STYLE, is_per_group
from rft.grading.foreign.styles.table import COMPLETION_TYPES, STYLES, Style
from rft.grading.loading.binding import PER_COMPLETION, PER_GROUP
from rft.grading.loading.targets import imported_modules

Parameters = Mapping[str, inspect.Parameter]

RFT_TYPES = {"completion": "str", "completions": "list[str"}
"""What rft passes, in the form of `Style.types`."""


def select_style(function: Callable[..., Any]) -> str:
    """Return the style of a function: a key of `STYLES`, or "rft".

    Args:
        function: The function or callable object. Parameters that a `functools.partial` sets are not considered.

    Raises:
        ValueError: Several styles fit, or none. The message lists the styles and the line to write.
    """
    if is_per_group(undecorated(function)):
        return RFT_STYLE
    options = getattr(function, "keywords", {})
    parameters = {
        name: parameter for name, parameter in inspect.signature(function).parameters.items() if name not in options
    }
    packages = _declared_packages(undecorated(function))
    fitting = [RFT_STYLE] if _may_be_ours(parameters) else []
    declared = list(fitting) if "rft" in packages or set(parameters) <= set(PER_COMPLETION) else []
    for name, style in STYLES.items():
        is_declared = any(f"{name}_".startswith(f"{package}_") for package in packages)
        if _has_marks(style, parameters, is_declared=is_declared) and call_problem(function, style) is None:
            fitting.append(name)
            declared += [name] if is_declared else []
    candidates = declared or fitting
    if len(candidates) == 1:
        return candidates[0]
    shown = ", ".join(parameters) or "(none)"
    if candidates:
        systems = {RFT_STYLE: "a grader of rft's"} | {name: style.system for name, style in STYLES.items()}
        lines = ", ".join(f"`style: {name}` ({systems[name]})" for name in candidates)
        raise ValueError(f"the parameters {shown} fit {len(candidates)} styles; add one line to the entry: {lines}")
    raise ValueError(
        f"the parameters {shown} fit no style. rft passes {', '.join(PER_COMPLETION)} by name; give every other "
        "parameter a default, or a value in the entry. If another system calls the function, add its style to the "
        f"entry, for example `style: trl`; the styles are {', '.join([RFT_STYLE, *STYLES])}"
    )


def call_problem(function: Callable[..., Any], style: Style) -> str | None:
    """Return why a style cannot call a function, or None. Columns of the tasks are unknown when a grader is loaded."""
    signature = inspect.signature(function)
    if style.positional:
        try:
            signature.bind(*style.names)
        except TypeError as error:
            return f"{error}; the style passes {len(style.names)} arguments in this order"
        return None
    unknown = [name for name in required_names(signature.parameters) if name not in style.names]
    missing = [name for name in unknown if not style.columns or name in style.not_columns]
    if missing:
        return f"the style does not pass {', '.join(missing)}"
    if not any(
        parameter.name in style.names or parameter.kind is parameter.VAR_KEYWORD
        for parameter in signature.parameters.values()
    ):
        return f"the function takes none of {', '.join(style.names)}"
    return None


def required_names(parameters: Parameters) -> list[str]:
    """Return the names of the parameters that a call must pass."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in variadic
    ]


def undecorated(function: Any) -> Any:
    """Return a function without the options of a `functools.partial` and without its decorators."""
    return inspect.unwrap(getattr(function, "func", function))


def _declared_packages(function: Any) -> set[str]:
    """Return the top-level packages of a function, of its class and its bases, and of the imports of its file."""
    owner = getattr(function, "__self__", function)
    module = str(getattr(function, "__module__", ""))
    names = {module, *(base.__module__ for base in type(owner).__mro__)}
    if file := getattr(sys.modules.get(module), "__file__", None):
        names |= imported_modules(Path(file))
    return {name.partition(".")[0] for name in names}


def _may_be_ours(parameters: Parameters) -> bool:
    """Whether a function may be a grader of rft's: one that takes `completion` may only lack a value for an option."""
    pool = {*PER_COMPLETION, *PER_GROUP}
    takes_pool = not pool.isdisjoint(parameters) and pool.issuperset(required_names(parameters))
    return not parameters or (("completion" in parameters or takes_pool) and _allows(RFT_TYPES, parameters))


def _has_marks(style: Style, parameters: Parameters, *, is_declared: bool) -> bool:
    """Whether a function has the parameters of a style; arguments that are passed in order need them in that order."""
    marks = style.marks[:1] if is_declared else style.marks
    if style.positional:
        has_marks = len(parameters) >= len(marks) and all(map(contains, marks, parameters))
    else:
        names = {"**" if parameter.kind is parameter.VAR_KEYWORD else name for name, parameter in parameters.items()}
        has_marks = all(names.intersection(alternatives) for alternatives in marks)
    return has_marks and _allows(style.types, parameters)


def _allows(types: Mapping[str, str], parameters: Parameters) -> bool:
    """Whether no annotation of a completion contradicts the type that a style passes."""
    for name in types.keys() & parameters.keys():
        annotation = parameters[name].annotation
        text = (annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)).lower()
        if any(text.startswith(known) for known in COMPLETION_TYPES if known != types[name]):
            return False
    return True
