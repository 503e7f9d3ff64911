"""The systems whose environments rft plays, and how they are told.

A system is told by the package of a base class, or by `environment.style`, never by the methods of a class alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rft.episodes.contract import ARGUMENTS, LoadedEnvironment
from rft.episodes.foreign import games, openenv, verifiers
from rft.episodes.foreign.trl import source_of
from rft.episodes.tools.play import ToolEnvironment
from rft.grading.loading.targets import Target
from rft.grading.normalise import describe_error
from rft.types import Task

STYLES = (*games.PLAYS, "openenv", "trl", "verifiers")
"""The values of `environment.style`."""
PACKAGES = {
    "gem": "gymnasium",
    "gymnasium": "gymnasium",
    "openenv": "openenv",
    "skyrl_gym": "skyrl",
    "textarena": "textarena",
    "trl": "trl",
    "verifiers": "verifiers",
}
"""The style of the environments of each package."""
TRL_TIMEOUT_S = 30.0
"""Deadline of a call of a TRL environment, the default of `tools.<name>.timeout_s`."""
TRL_INVALID_CALLS = 3
"""Turns in a row with an invalid call that end its episode, the default of `environment.max_invalid_calls`."""


def style_of(target: object) -> str | None:
    """Return the style of a class by its base classes; None if it is no environment of a known system."""
    bases = target.__mro__ if isinstance(target, type) else ()
    packages = (base.__module__.partition(".")[0] for base in bases)
    return next((PACKAGES[package] for package in packages if package in PACKAGES), None)


def adapt(use: str, target: Target, style: str, options: Mapping[str, Any]) -> LoadedEnvironment:
    """Return an environment of another system as a coroutine function, which takes `environment.options`, too.

    Args:
        use: The value of `environment.use`.
        target: The class, or a function that makes the environment.
        style: One of `STYLES`.
        options: Its arguments.

    Raises:
        ValueError: It cannot be made, or is no environment of the system.
    """
    call: Callable[..., Awaitable[Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    takes: tuple[str, ...] = ARGUMENTS
    has_score = True
    if style == "trl":
        source = source_of(target, options, TRL_TIMEOUT_S)
        call = partial(_without_options, ToolEnvironment([source], max_invalid_calls=TRL_INVALID_CALLS).play)
        tools, has_score = source.declarations(), source.has_score
    elif style == "verifiers":
        environment = _made(target, options)
        call, tools, takes = verifiers.as_coroutine(environment), verifiers.tools_of(environment), ("task", "policy")
    elif style == "openenv":
        call = openenv.as_coroutine(target.object)
    else:
        call = games.as_coroutine(target.object, style)
    file, sha256 = target.file, target.sha256
    return LoadedEnvironment(call, takes, use, file, sha256, tools=tuple(tools), has_score=has_score)


def _made(target: Target, options: Mapping[str, Any]) -> Any:
    """Make an environment that all episodes of a process share."""
    try:
        return target.object(**options)
    except Exception as error:  # the user's code
        raise ValueError(f"the environment cannot be made: {describe_error(error, target.file)}") from error


async def _without_options(play: Callable[..., Awaitable[Any]], task: Task, policy: Any, seed: int, **_: Any) -> Any:
    """Play an environment that had its options when it was made."""
    return await play(task, policy, seed)
