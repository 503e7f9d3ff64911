"""The definition of an environment.

An environment is a coroutine function. It talks with the policy, and returns the score of the episode:

    async def guess(task, policy):
        secret, said = int(task.item["secret"]), "I think of a number from 1 to 31."
        for turn in range(5):
            reply = await policy(said)
            if not reply.text.strip().isdigit():
                return 0.0
            number = int(reply.text)
            if number == secret:
                return 1.0
            said = "higher" if number < secret else "lower"
        return 0.0

Its state is its local variables; it ends with `return`, and cleans up with `try` and `finally`. `await policy(said)`
adds a user's message, or a list of messages, and samples the next turn; `await policy()` samples it after the task's
own prompt. Arguments are passed by name: `task` (its `id`, `messages`, `item` and `split`), `policy`, and on request
`seed`, an integer that all episodes of a group share. Any exception is a fault of the environment: the episode gets no
reward.

`policy.reward(0.5)` rewards the last turn. The score of the episode is the sum of these rewards and of the returned
number, which counts for the last turn.

At a limit (`environment.max_turns`, the context, or a turn that was cut at `sampler.max_completion_tokens`) the next
call of the policy raises `EpisodeOver`. An environment may catch it to return a score. If it does not, rewards by turn
stand; without any, the episode gets the lowest score.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rft.data.tool_calls import ToolCall
from rft.episodes.foreign import STYLES, as_coroutine, style_of
from rft.grading.loading.targets import find_target

Policy = Callable[..., Awaitable["Reply"]]
"""What an environment calls `policy`."""
ARGUMENTS = ("task", "policy", "seed")
"""Arguments that rft passes by name."""
EMBEDDED: Mapping[str, str] = {
    "embedded:guess_number": f"{Path(__file__).parent / 'games' / 'guess_number.py'}:guess_number",
}
"""The environments that ship with rft, and their places."""


class EpisodeOver(Exception):
    """The episode has reached a limit, so the policy says no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A turn of the policy.

    Example:
        Reply(text="16", stop="stop")
        Reply(text="<call>add(1, 2)</call>", stop="stop", calls=(ToolCall(id="c00000000", name="add", ...),))
    """

    text: str
    """The decoded turn, without special tokens."""
    stop: str
    """`stop` if the policy ended its turn, `length` if the turn was cut."""
    calls: tuple[ToolCall, ...] = ()
    """The tool calls of the turn, in its order, if the episode has tools; none of a turn that was cut."""


@dataclass(frozen=True, slots=True)
class LoadedEnvironment:
    """An environment that is checked and ready to call.

    Example:
        LoadedEnvironment(call=guess, takes=("task", "policy"), use="my_env.py:guess", file="/home/ada/my_env.py",
                          sha256="9b2e51c0...")
    """

    call: Callable[..., Any]
    """The coroutine function."""
    takes: tuple[str, ...]
    """The arguments that it takes, from `ARGUMENTS`."""
    use: str
    """The value of `environment.use` or `environment.command`."""
    file: str
    """Its file; of a command its program."""
    sha256: str
    """SHA-256 of the file; of a command that of its words."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """The tools that the model is told of, in OpenAI's format."""
    entry_of: Mapping[str, str] = field(default_factory=dict)
    """Entry of `tools` that each tool comes from, by name of the tool."""
    has_score: bool = True
    """Whether the environment may return a score."""
    speaks: bool = True
    """Whether the environment may speak first, so that a row needs no prompt."""


def command_environment(command: str) -> LoadedEnvironment:
    """Return a command as an environment, which `rft.episodes.command` runs.

    Args:
        command: The value of `environment.command`.
    """
    program = shlex.split(command)[0]
    return LoadedEnvironment(_run_elsewhere, (), command, program, hashlib.sha256(command.encode()).hexdigest())


async def _run_elsewhere() -> None:
    raise RuntimeError("a command is no coroutine; rft.episodes.command runs it")


def load_environment(use: str, options: Mapping[str, Any], style: str | None = None) -> LoadedEnvironment:
    """Import an environment, and check its signature.

    Args:
        use: `path/to/file.py:name`, or a name of `EMBEDDED`.
        options: Further arguments, by name.
        style: The system of an environment that a function makes; see `rft.episodes.foreign`.

    Raises:
        ValueError: The file or name does not exist, the file cannot be imported, or it is no environment.
    """
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
        return LoadedEnvironment(as_coroutine(target.object, style), ARGUMENTS, use, target.file, target.sha256)
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
