"""Fills in the options of a grader, a dataclass's fields or a function's parameters, from its entry."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rft.grading.contract import is_per_group
from rft.grading.loading.binding import PER_COMPLETION, PER_GROUP, option_parameters
from rft.grading.loading.keys import KEYS
from rft.grading.loading.targets import Target, did_you_mean
from rft.grading.normalise import describe_error
from rft.wording import expectation


def fill_in(target: Target, options: Mapping[str, Any]) -> tuple[Callable[..., Any] | None, list[str]]:
    """Fill in the options of a grader.

    Returns:
        The callable and no problems, or None and all problems. A problem begins with its key below the grader's key, as
        `.tolerance: ...`.
    """
    grader = target.object
    is_class = inspect.isclass(grader)
    if is_class and not (dataclasses.is_dataclass(grader) and callable(getattr(grader, "grade", None))):
        return None, [".use: that is a class; a grader is a function, or a dataclass with a method 'grade'"]
    if not callable(grader):
        return None, [f".use: that is of type {type(grader).__name__}; a grader is a function, or a dataclass"]
    try:
        allowed, required = _option_names(grader)
    except ValueError as error:  # some functions written in C have no signature
        return None, [f".use: its parameters cannot be read ({error}); wrap it in a function in your file"]
    values, problems = _checked(grader, allowed, options)
    problems += [
        f".{name}: the grader's option has the name of a key that rft reads; rename it"
        for name in allowed
        if name in KEYS
    ]
    passed = PER_GROUP if is_per_group(grader) else PER_COMPLETION
    problems += [
        f".{name}: missing{did_you_mean(name, passed)}; the grader has no default for it, and rft passes only "
        f"{', '.join(passed)}"
        for name in required
        if name not in options
    ]
    if problems:
        return None, problems
    try:
        return (grader(**values).grade if is_class else functools.partial(grader, **values)), []
    except ValueError as error:
        return None, [f": {error}"]
    except Exception as error:  # a check of the grader's own may raise any exception
        return None, [f": {describe_error(error, target.file)}"]


def unknown_option(name: str, allowed: Collection[str]) -> str | None:
    """Return the problem with an option that a grader does not have; None where the grader has it."""
    if name in allowed:
        return None
    options = f"its options are {', '.join(allowed)}" if allowed else "it has no options"
    return f".{name}: the grader has no such option{did_you_mean(name, [*allowed, *KEYS])}; {options}"


def _option_names(grader: Any) -> tuple[list[str], list[str]]:
    """Return the names of all options, and of the required options."""
    if dataclasses.is_dataclass(grader):
        fields = [field for field in dataclasses.fields(grader) if field.init]
        missing = dataclasses.MISSING
        required = [field.name for field in fields if field.default is missing and field.default_factory is missing]
        return [field.name for field in fields], required
    parameters = option_parameters(grader)
    return list(parameters), [name for name, parameter in parameters.items() if parameter.default is parameter.empty]


def _checked(grader: Any, allowed: list[str], options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options' values in the declared types, and the problems with them."""
    if not options:
        return {}, []
    import pydantic

    hints = _type_hints(grader)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in options.items():
        if problem := unknown_option(name, allowed):
            problems.append(problem)
            continue
        hint = hints.get(name, Any)
        try:
            values[name] = pydantic.TypeAdapter[Any](hint).validate_python(value)
        except pydantic.ValidationError as error:
            expected = dict.fromkeys(expectation(detail).removeprefix("should be ") for detail in error.errors())
            given = f".{name}: {value!r} is not of type {inspect.formatannotation(hint)}"
            problems.append(f"{given}: should be {' or '.join(expected)}")
        except pydantic.errors.PydanticUserError:
            problems.append(f".{name}: no configuration can hold a {inspect.formatannotation(hint)}")
    return values, problems


def _type_hints(grader: Any) -> dict[str, Any]:
    """Return the declared types by name; empty if only type checkers import them, or for unusual callables."""
    try:
        return typing.get_type_hints(grader)
    except (NameError, TypeError):
        return {}
