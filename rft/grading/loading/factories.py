"""Graders that must be made first: a class is instantiated, and a function that makes reward functions is called.

Both are common elsewhere: ms-swift's reward functions are classes with a `__call__`, TRL and open-r1 have functions
such as `get_repetition_penalty_reward(ngram_size, max_penalty)`. The entry's options go to the constructor or the
factory, as far as it takes them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rft.grading.contract import is_per_group
from rft.grading.loading.binding import PER_COMPLETION, PER_GROUP
from rft.grading.loading.targets import Target
from rft.grading.normalise import describe_error


def make(target: Target, options: Mapping[str, Any]) -> tuple[Target, dict[str, Any]]:
    """Make the grader where the target is a class or a factory of graders.

    Args:
        target: What `use` names.
        options: The options of the entry.

    Returns:
        The target, of the grader that was made; and the options that are left for it.

    Raises:
        ValueError: Making it failed, or the class makes nothing that can be called.
    """
    named = target.object
    if inspect.isclass(named):
        if dataclasses.is_dataclass(named):
            return target, dict(options)  # rft's own
        if not inspect.isfunction(getattr(named, "__call__", None)):  # noqa: B004 - every class can be called
            raise ValueError(
                f"that is a class, and its instances cannot be called; make a grader of it in a file of your own, as "
                f"`def grade(completion, task): return {named.__name__}(...).<method>(completion)`"
            )
        takes = [name for name in _parameters(named) if name in options]
        made = _called(named, {name: options[name] for name in takes}, target.file)
        return replace(target, object=made), {name: value for name, value in options.items() if name not in takes}
    if not _is_factory(named, options):
        return target, dict(options)
    made = _called(named, options, target.file)
    return (replace(target, object=made), {}) if callable(made) else (target, dict(options))


def _is_factory(function: Any, options: Mapping[str, Any]) -> bool:
    """Whether the entry sets all required parameters of a function, and no other parameter could hold a completion."""
    from rft.grading.foreign.styles import STYLES

    if not inspect.isroutine(function) or inspect.iscoroutinefunction(function) or is_per_group(function):
        return False
    parameters = _parameters(function)
    if getattr(getattr(function, "__registry_info__", None), "type", None) == "scorer":  # of inspect_ai
        return set(options) <= set(parameters)
    passed = {*PER_COMPLETION, *PER_GROUP}.union(*(style.parameters for style in STYLES.values()))
    required = [
        name
        for name, one in parameters.items()
        if one.default is one.empty and one.kind < one.VAR_KEYWORD and one.kind is not one.VAR_POSITIONAL
    ]
    return (passed - set(options)).isdisjoint(parameters) and set(required) <= set(options) <= set(parameters)


def _parameters(made_by: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(made_by).parameters
    except ValueError:  # some that are written in C do not tell
        return {}


def _called(make: Callable[..., Any], options: Mapping[str, Any], file: str) -> Any:
    try:
        return make(**options)
    except Exception as error:
        name = getattr(make, "__name__", "it")
        raise ValueError(
            f"calling {name}({', '.join(options)}) to make the grader failed: {describe_error(error, file)}"
        ) from error
