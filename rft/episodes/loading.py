"""Reads the environment that `environment.use` or `environment.command` names."""

from __future__ import annotations

import asyncio
import dis
import hashlib
import inspect
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rft.episodes.contract import ARGUMENTS, LoadedEnvironment
from rft.episodes.foreign.styles import PACKAGES, STYLES, adapt, style_of
from rft.grading.loading.targets import find_target

EMBEDDED: Mapping[str, str] = {
    "embedded:guess_number": f"{Path(__file__).parent / 'games' / 'guess_number.py'}:guess_number",
}
"""The environments that ship with rft, and their places."""


def command_environment(command: str) -> LoadedEnvironment:
    """Return a command as an environment, which `rft.episodes.command` runs.

    Args:
        command: The value of `environment.command`.
    """
    words = shlex.split(command)
    hashed = hashlib.sha256(command.encode())
    for file in filter(os.path.isfile, words):
        hashed.update(Path(file).read_bytes())
    return LoadedEnvironment(_run_elsewhere, (), command, words[0], hashed.hexdigest())


async def _run_elsewhere() -> None:
    raise RuntimeError("a command is no coroutine; rft.episodes.command runs it")


def asks_never(environment: LoadedEnvironment) -> bool:
    """Whether a coroutine never reads its parameter `policy`, so that no episode would have a turn."""
    return "policy" in environment.takes and not _reads(environment.call, "policy")


def _reads(function: Any, name: str) -> bool:
    """Whether a function reads one of its parameters, itself or in a function within it; True if that is hidden."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or name not in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        return True
    read = (each.argval for each in dis.get_instructions(code) if each.opname.startswith("LOAD_FAST"))
    return name in code.co_cellvars or any(name == each or (isinstance(each, tuple) and name in each) for each in read)


def load_environment(use: str, options: Mapping[str, Any], style: str | None = None) -> LoadedEnvironment:
    """Import an environment, and check its signature.

    Args:
        use: `path/to/file.py:name`, or a name of `EMBEDDED`.
        options: Further arguments, by name.
        style: The system of an environment that a function makes; one of `rft.episodes.foreign.styles.STYLES`.

    Raises:
        ValueError: The file or name does not exist, the file cannot be imported, or it is no environment.
    """
    if use.endswith(".py") and os.path.isfile(use):
        raise ValueError(f"name the function or class in the file, as {use}:guess")
    if ".py:" not in use and use not in EMBEDDED:
        raise ValueError(
            f"'{use}' names no environment; name your own as path/to/file.py:function, or take one that ships with "
            f"rft: {', '.join(EMBEDDED)}"
        )
    target = find_target(EMBEDDED.get(use, use))
    if (style := style or style_of(target.object)) is not None:
        if not callable(target.object) or asyncio.iscoroutinefunction(target.object):
            raise ValueError(
                f"environment.style={style}: {use} must be a class, or a function that makes an environment"
            )
        return adapt(use, target, style, options)
    if isinstance(target.object, type):
        raise ValueError(
            f"{use} is a class without a base class of {', '.join(PACKAGES)}, and its methods do not tell its system; "
            f"set environment.style to one of {', '.join(STYLES)}, such as environment.style=trl for a class that "
            "TRL's environment_factory takes"
        )
    if not asyncio.iscoroutinefunction(target.object):
        raise ValueError(
            f"{use} is no coroutine function; begin it with 'async def', and await the policy; if it makes an "
            f"environment of another system, set environment.style to one of {', '.join(STYLES)}"
        )
    parameters = inspect.signature(target.object).parameters
    takes = tuple(name for name in ARGUMENTS if name in parameters)
    if "policy" not in takes:
        raise ValueError(f"{use} takes no 'policy', so it could not ask for a turn; add the parameter")
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    named = {name for name, each in parameters.items() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    if unknown := sorted(options.keys() - named - set(ARGUMENTS)) if not takes_any else []:
        raise ValueError(f"environment.options: {use} takes no {', '.join(unknown)}")
    if own := sorted(options.keys() & set(ARGUMENTS)):
        raise ValueError(f"environment.options: rft passes {', '.join(own)} itself; rename the option")
    required = {name for name in named if parameters[name].default is inspect.Parameter.empty}
    if missing := sorted(required - options.keys() - set(ARGUMENTS)):
        raise ValueError(f"{use} needs {', '.join(missing)}; set it in environment.options, or give it a default")
    return LoadedEnvironment(target.object, takes, use, target.file, target.sha256)
