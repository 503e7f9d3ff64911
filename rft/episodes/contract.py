"""The definition of an environment.

An environment is a coroutine function. It talks with the policy, and returns the score of the episode:

    async def guess(task, policy):
        secret, said = int(task.item["secret"]), "I think of a number from 1 to 31."
        for turn in range(5):
            reply = await policy(said)
            if not reply.text.strip().isdecimal():
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

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rft.data.tool_calls import ToolCall
from rft.types import Task

Policy = Callable[..., Awaitable["Reply"]]
"""What an environment calls `policy`."""
ARGUMENTS = ("task", "policy", "seed")
"""Arguments that rft passes by name."""


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
    """SHA-256 of the file; of a command that of its words, and of the files among them."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """The tools that the model is told of, in OpenAI's format."""
    entry_of: Mapping[str, str] = field(default_factory=dict)
    """Entry of `tools` that each tool comes from, by name of the tool."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint of the store that an entry of `tools` searches, by entry."""
    has_score: bool = True
    """Whether the environment may return a score."""
    requires: tuple[Callable[[Task], None], ...] = ()
    """What each refuses a task that lacks what a tool works on, with a ValueError."""
    speaks: bool = True
    """Whether the environment may speak first, so that a row needs no prompt."""

    def tools_of(self, entry: str) -> list[Mapping[str, Any]]:
        """Return the tools of an entry of `tools`."""
        return [tool for tool in self.tools if self.entry_of.get(tool["function"]["name"]) == entry]
