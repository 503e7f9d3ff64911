"""Loads a grader from its entry in the configuration, or reports everything that is wrong with the entry.

An entry is a mapping. `use` names the grader; `openai` names a grader file of OpenAI's, or holds its content. `style`
names the system that calls the function, where the function does not declare it. `rft.grading.loading.keys` lists the
keys that the panel reads. All other keys are options of the grader.

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rft.errors import ConfigError
from rft.grading.contract import RFT_STYLE, LoadedGrader, is_deterministic, is_in_process, is_per_group
from rft.grading.loading.binding import Binding, bind, option_parameters
from rft.grading.loading.factories import make
from rft.grading.loading.keys import take_keys
from rft.grading.loading.options import fill_in, unknown_option
from rft.grading.loading.targets import BUILT_IN, Target, did_you_mean, find_target
from rft.imports import missing_packages
from rft.redaction import hide, revealed, sealed, secrets_in


def load_grader(name: str, spec: Mapping[str, Any]) -> LoadedGrader:
    """Load a grader from its entry in the configuration.

    Args:
        name: Its key under `graders`.
        spec: Its entry.

    Raises:
        ConfigError: The entry is invalid; the message lists all problems.
    """
    grader, problems = _load(name, spec)
    if grader is None:
        raise ConfigError("graders", problems)
    return grader


def grader_problems(name: str, spec: Mapping[str, Any]) -> list[str]:
    """Return all problems of a grader's entry in the configuration, each with its key."""
    return _load(name, spec)[1]


def _load(name: str, spec: Any) -> tuple[LoadedGrader | None, list[str]]:
    """Return either the grader or its problems."""
    key = f"graders.{name}"
    if not isinstance(spec, Mapping):
        return None, [f"{key}: {spec!r} is not a mapping; write for example {{use: exact, weight: 1.0}}"]
    spec = revealed(spec)
    options = dict(spec)
    use, openai, style = options.pop("use", None), options.pop("openai", None), options.pop("style", None)
    values, problems = take_keys(options)
    if openai is not None:
        target, bound, others = _openai(openai, {"use": use, "style": style} | options)
    else:
        target, bound, others = _target(use, options, style)
    problems = [hide(f"{key}{problem}", secrets_in(spec)) for problem in [*problems, *others]]
    if not problems:
        problems = [f"{key}{problem}" for problem in _unfit_for_json(spec)]
    if target is None or bound is None or problems:
        return None, problems
    in_process = is_in_process(bound.call, target.object)
    is_trivial = in_process and not inspect.iscoroutinefunction(bound.call)
    # Computing the score is faster than the look-up.
    by_default = is_deterministic(bound.call, target.object) and not is_trivial
    cache = values.pop("cache")
    grader = LoadedGrader(
        name=name,
        **values,
        is_cached=by_default if cache is None else cache,
        call=bound.call,
        takes=bound.takes,
        per_group=bound.per_group,
        in_process=in_process,
        entry=sealed({"graders": {name: spec}})["graders"][name],
        use=use or str(openai if isinstance(openai, (str, Path)) else "openai"),
        file=target.file,
        sha256=target.sha256,
    )
    return grader, []


def _target(use: Any, options: Mapping[str, Any], style: Any) -> tuple[Target | None, Binding | None, list[str]]:
    """Bind the grader that `use` names, in the style of the entry or in the one that the function declares."""
    if not isinstance(use, str) or not use:
        near = next((f"; is {name} meant as use?" for name in options if did_you_mean(name, ["use"])), "")
        own = "path/to/file.py:function, or package.module:function"
        return None, None, [f".use: missing{near}; name one of {', '.join(BUILT_IN)}, {own}"]
    try:
        target = find_target(use)
        if use not in BUILT_IN:
            target, options = make(target, options)
    except ValueError as error:
        return None, None, [f".use: {error}"]
    if use in BUILT_IN and (problem := missing_packages(f"the grader {use}", *getattr(target.object, "needs", ()))):
        return None, None, [f".use: {problem}"]
    if use in BUILT_IN or inspect.isclass(target.object):
        problems = [] if style in (None, RFT_STYLE) else [f".style: {use} is a grader of rft's; leave style out"]
        bound, others = _native(target, use, options)
        return target, bound, problems + others
    return target, *_function(target, use, options, style)


def _native(target: Target, use: str, options: Mapping[str, Any]) -> tuple[Binding | None, list[str]]:
    """Bind a grader of rft's."""
    call, problems = fill_in(target, options)
    if call is None:
        return None, problems
    per_group = is_per_group(target.object)
    takes, unfilled = bind(call, per_group=per_group)
    if unfilled:
        return None, [f".use: {use}: {problem}" for problem in unfilled]
    return Binding(call, takes, per_group), []


def _function(target: Target, use: str, options: Mapping[str, Any], style: Any) -> tuple[Binding | None, list[str]]:
    """Bind a function in the given style, or in the one that it declares; other systems' options have no types."""
    from rft.grading.foreign.styles import adapt, select_style

    function = getattr(target.object, "score_answer", target.object)  # a method of reasoning-gym's data sets
    try:
        allowed = option_parameters(function)
    except (TypeError, ValueError):  # an object that is not callable, or a function written in C
        return _native(target, use, options)
    filled = dict(options)
    parser = filled.pop("parser", None)
    problems = [problem for name in filled if (problem := unknown_option(name, allowed))]
    if problems:
        return None, problems
    try:
        partial = functools.partial(function, **filled)
        style = style or select_style(partial)
        if style == RFT_STYLE:
            return _native(target, use, options)
        return adapt(partial, style, parser=parser), []
    except (TypeError, ValueError) as error:
        return None, [f".style: {error}"]


def _openai(source: Any, others: Mapping[str, Any]) -> tuple[Target | None, Binding | None, list[str]]:
    """Load a grader of OpenAI's from a file or from the entry itself."""
    problems = [
        f".{name}: openai already defines the grader; remove {name}"
        for name, value in others.items()
        if value is not None
    ]
    from rft.grading.foreign.openai_spec import load_openai

    if not isinstance(source, (str, Path, Mapping)):
        return None, None, [*problems, f".openai: {source!r} is neither a grader.json nor the content of one"]
    try:
        grader = load_openai(source if isinstance(source, Mapping) else str(source))
        content = json.dumps(source).encode() if isinstance(source, Mapping) else Path(source).read_bytes()
    except (ValueError, OSError) as error:
        return None, None, problems + [f".openai: {problem}" for problem in getattr(error, "problems", [error])]
    takes, _ = bind(grader.grade, per_group=False)
    file = "" if isinstance(source, Mapping) else str(Path(source).resolve())
    target = Target(grader, file, hashlib.sha256(content).hexdigest())
    return target, Binding(grader.grade, takes, per_group=False), problems


def _unfit_for_json(entry: Mapping[str, Any]) -> list[str]:
    """Return a problem if JSON cannot hold the entry, which goes to the worker processes and into the manifest."""
    try:
        json.dumps(entry)
    except (TypeError, ValueError) as error:
        return [f": JSON cannot hold the entry: {error}"]
    return []
