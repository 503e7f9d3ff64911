"""Makes graders from classes and factories.

Other systems use both: ms-swift's reward functions are classes with a `__call__`; TRL and open-r1 have functions such
as `get_repetition_penalty_reward(ngram_size, max_penalty)`. The options of the entry go to the constructor or the
factory, if it takes them.
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
    """Make the grader if the target is a class or a factory of graders.

    Args:
        target: The target of `use`.
        options: The options of the entry.

    Returns:
        The target with the grader, and the remaining options.

    Raises:
        ValueError: Making the grader failed, or the instances of the class cannot be called.
    """
    named = target.object
    if inspect.isclass(named):
        if dataclasses.is_dataclass(named):
            return target, dict(options)  # a grader of rft's
        if not inspect.isfunction(getattr(named, "__call__", None)):  # noqa: B004 - every class can be called
            raise ValueError(
                f"that is a class, and its instances cannot be called; wrap it in a function in your file, as "
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
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind < parameter.VAR_KEYWORD
        and parameter.kind is not parameter.VAR_POSITIONAL
    ]
    return (passed - set(options)).isdisjoint(parameters) and set(required) <= set(options) <= set(parameters)


def _parameters(made_by: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(made_by).parameters
    except ValueError:  # some functions written in C have no signature
        return {}


def _called(make: Callable[..., Any], options: Mapping[str, Any], file: str) -> Any:
    try:
        return make(**options)
    except Exception as error:
        name = getattr(make, "__name__", "it")
        raise ValueError(
            f"calling {name}({', '.join(options)}) to make the grader failed: {describe_error(error, file)}"
        ) from error
