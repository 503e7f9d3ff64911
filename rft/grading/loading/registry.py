"""From a grader's entry in the configuration to a grader that is ready to call, or to everything that is wrong with it.

An entry is a mapping. `use` names the grader, or `openai` a grader file (or object) of OpenAI's; `style` says whose
conventions a function follows where that is not plain; `rft.grading.loading.keys` has the keys that are for the panel.
All else are the grader's options.

    {"use": "numeric", "weight": 1.0, "tolerance": 0.01}
    {"use": "my_graders.py:concise", "weight": 0.2, "timeout_s": 5}
    {"use": "their_rewards.py:reward_func", "style": "trl"}
    {"openai": "grader.json"}
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.errors import ConfigError
from rft.grading.contract import OWN, LoadedGrader, is_deterministic, is_in_process, is_per_group
from rft.grading.loading.binding import PER_COMPLETION, PER_GROUP, bind, option_parameters
from rft.grading.loading.factories import make
from rft.grading.loading.keys import take_keys
from rft.grading.loading.options import fill_in
from rft.grading.loading.targets import BUILT_IN, Target, did_you_mean, find_target
from rft.redaction import hide, secrets_in


@dataclass(frozen=True, slots=True)
class _Bound:
    """What is called, with its options filled in, and what with."""

    call: Callable[..., Any]
    takes: tuple[str, ...]
    per_group: bool


def load_grader(name: str, spec: Mapping[str, Any]) -> LoadedGrader:
    """Make a grader from its entry in the configuration.

    Args:
        name: Its key under `graders`.
        spec: Its entry.

    Raises:
        ConfigError: Something is wrong with the entry; it holds everything that is.
    """
    grader, problems = _load(name, spec)
    if grader is None:
        raise ConfigError("graders", problems)
    return grader


def grader_problems(name: str, spec: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with a grader's entry in the configuration, each with its key and in words."""
    return _load(name, spec)[1]


def _load(name: str, spec: Any) -> tuple[LoadedGrader | None, list[str]]:
    """Return the grader, or None and what is wrong; exactly one of the two is there."""
    key = f"graders.{name}"
    if not isinstance(spec, Mapping):
        return None, [f"{key}: {spec!r} is not a mapping; write for example {{use: exact, weight: 1.0}}"]
    options = dict(spec)
    use, openai, style = options.pop("use", None), options.pop("openai", None), options.pop("style", None)
    values, problems = take_keys(options)
    if openai is not None:
        target, bound, found = _openai(openai, {"use": use, "style": style} | options)
    else:
        target, bound, found = _target(use, options, style)
    problems = [hide(f"{key}{problem}", secrets_in(spec)) for problem in [*problems, *found]]
    if not problems:
        problems = [f"{key}{problem}" for problem in _unfit_for_json(spec)]
    if target is None or bound is None or problems:
        return None, problems
    in_process = is_in_process(bound.call, target.object)
    is_trivial = in_process and not inspect.iscoroutinefunction(bound.call)
    by_default = is_deterministic(bound.call, target.object) and not is_trivial  # computed sooner than looked up
    cache = values.pop("cache")
    grader = LoadedGrader(
        name=name,
        **values,
        is_cached=by_default if cache is None else cache,
        call=bound.call,
        takes=bound.takes,
        per_group=bound.per_group,
        in_process=in_process,
        entry=dict(spec),
        use=use or str(openai if isinstance(openai, (str, Path)) else "openai"),
        file=target.file,
        sha256=target.sha256,
    )
    return grader, []


def _target(use: Any, options: Mapping[str, Any], style: Any) -> tuple[Target | None, _Bound | None, list[str]]:
    """Bind what `use` names: as a function of another system where its parameters say so, or else as a grader of ours.

    The other systems are asked first: `f(completion, answer=None)` could be called without the answer, and would grade
    without it in silence.
    """
    if not isinstance(use, str) or not use:
        near = next((f"; is {name} meant as use?" for name in options if did_you_mean(name, ["use"])), "")
        return None, None, [f".use: missing{near}; name one of {', '.join(BUILT_IN)}, or path/to/file.py:function"]
    try:
        target = find_target(use)
    except ValueError as error:
        return None, None, [f".use: {error}"]
    if use not in BUILT_IN:
        try:
            target, options = make(target, options)
        except ValueError as error:
            return None, None, [f".use: {error}"]
    if style is not None and style != OWN:
        return target, *_foreign(target, options, style)
    bound, problems = _native(target, use, options)
    is_theirs = style is None and use not in BUILT_IN and not inspect.isclass(target.object)
    if is_theirs and (bound is not None or _lacks_arguments(target.object, options)):
        foreign, candidates = _foreign(target, options, None)
        if foreign is not None or candidates:
            return target, foreign, [] if foreign is not None else candidates
    return target, bound, problems


def _native(target: Target, use: str, options: Mapping[str, Any]) -> tuple[_Bound | None, list[str]]:
    call, problems = fill_in(target, options)
    if call is None:
        return None, problems
    per_group = is_per_group(target.object)
    takes, unfilled = bind(call, per_group=per_group)
    if unfilled:
        return None, [f".use: {use}: {problem}" for problem in unfilled]
    return _Bound(call, takes, per_group), []


def _lacks_arguments(function: Any, options: Mapping[str, Any]) -> bool:
    """Whether a function has parameters that rft does not fill: a missing option, or the mark of another system."""
    function = getattr(function, "score_answer", function)  # of an object that has it, as reasoning-gym's data sets
    if not callable(function):
        return False
    ours = {*(PER_GROUP if is_per_group(function) else PER_COMPLETION), *options}
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return False
    return any(one.default is one.empty and one.kind < one.VAR_KEYWORD and one.name not in ours for one in parameters)


def _foreign(target: Target, options: Mapping[str, Any], style: Any) -> tuple[_Bound | None, list[str]]:
    """Bind another system's reward function; its own further parameters are options, unchecked.

    Returns:
        What is called, or what is wrong; neither where no style is given and the function is one of ours.
    """
    from rft.grading.foreign.styles import adapt

    foreign = target.object
    try:
        filled = dict(options)
        parser = filled.pop("parser", None)
        if options:
            parameters = option_parameters(foreign)
            takes = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
            unknown = sorted(set(filled) - set(parameters))
            if unknown:
                return None, [
                    f".{name}: there is no such option{did_you_mean(name, parameters)}; {takes}" for name in unknown
                ]
        adapted = adapt(functools.partial(foreign, **filled) if filled else foreign, style, parser=parser)
    except (ValueError, TypeError) as error:  # no signature, or no style that fits
        return None, [f".style: {error}"]
    if adapted.style == OWN:
        return None, []
    return _Bound(adapted.call, adapted.takes, adapted.per_group), []


def _openai(source: Any, others: Mapping[str, Any]) -> tuple[Target | None, _Bound | None, list[str]]:
    """Load a grader of OpenAI's, from a file or as it stands in the entry."""
    problems = [
        f".{name}: openai is given as well, and says it all; leave {name} out"
        for name, value in others.items()
        if value is not None
    ]
    from rft.grading.foreign.openai_spec import load_openai

    if not isinstance(source, (str, Path, Mapping)):
        return None, None, [*problems, f".openai: {source!r} is not a grader.json, nor what such a file holds"]
    try:
        grader = load_openai(source if isinstance(source, Mapping) else str(source))
        content = json.dumps(source).encode() if isinstance(source, Mapping) else Path(source).read_bytes()
    except (ValueError, OSError) as error:
        return None, None, problems + [f".openai: {problem}" for problem in getattr(error, "problems", [error])]
    takes, _ = bind(grader.grade, per_group=False)
    file = "" if isinstance(source, Mapping) else str(Path(source).resolve())
    target = Target(grader, file, hashlib.sha256(content).hexdigest())
    return target, _Bound(grader.grade, takes, per_group=False), problems


def _unfit_for_json(entry: Mapping[str, Any]) -> list[str]:
    """An entry travels to the worker processes as JSON, and into the manifest."""
    try:
        json.dumps(entry)
    except (TypeError, ValueError) as error:
        return [f": the entry cannot be written as JSON, as a configuration file could hold it: {error}"]
    return []
