"""The environment of tools: runs the calls of the policy, and tells it their results, until a turn has no call."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from rft.data.tool_calls import UNKNOWN, ToolCall
from rft.episodes.contract import EpisodeOver, Policy
from rft.episodes.tools.schemas import argument_problem
from rft.episodes.tools.tool import FoundPassages, OpenTools, Tool, ToolError, ToolFault, ToolSource
from rft.grading.normalise import describe_error
from rft.turns import PASSAGES
from rft.types import Score, Status, Task
from rft.waiting import waiting

NO_SCORE = "tools give no score; graders score the episode"
"""Reason of an episode that reached no limit, and whose tools have no `get_reward`."""
PROGRAMS_SHARE = 0.8
"""Share of `environment.timeout_s` for programs of the policy; beyond it, time would run out for the tools."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")


class ToolEnvironment:
    """Plays episodes in which the policy calls tools.

    Args:
        sources: Open the tools of each episode.
        max_invalid_calls: Turns in a row with a call that cannot be run, after which the episode ends.
        timeout_s: `environment.timeout_s`. An episode ends before programs of the policy use it up.
    """

    def __init__(self, sources: Sequence[ToolSource], *, max_invalid_calls: int, timeout_s: float = math.inf) -> None:
        self._sources = tuple(sources)
        self._max_invalid_calls = max_invalid_calls
        self._programs_s = PROGRAMS_SHARE * timeout_s

    async def play(self, task: Task, policy: Policy, seed: int) -> Any:
        """Play an episode; return the score of the source that gives one, or None.

        Raises:
            ToolFault: A tool failed through no fault of the model.
        """
        async with AsyncExitStack() as stack:
            opened = [await self._open(source, task, seed, stack) for source in self._sources]
            tools = {tool.name: (tool, source) for some, source in opened for tool in some.tools}
            told = ""
            try:
                told = await self._turns(policy, tools, "\n".join(some.says for some, _ in opened if some.says))
            except EpisodeOver as over:
                told = str(over)
            return await self._score(opened, told)

    async def _open(
        self, source: ToolSource, task: Task, seed: int, stack: AsyncExitStack
    ) -> tuple[OpenTools, ToolSource]:
        try:
            return await stack.enter_async_context(source.open(task, seed)), source
        except ToolFault:
            raise
        except Exception as error:
            raise ToolFault(f"tool {source.name}: {describe_error(error, source.file)}") from error

    async def _turns(self, policy: Policy, tools: Mapping[str, tuple[Tool, ToolSource]], says: str) -> str:
        """Talk until a turn has no call; return the reason of another end."""
        reply = await policy(says or None)
        num_invalid, used_s = 0, 0.0
        while reply.calls:
            longest_s = max(
                (tools[call.name][0].program_s or 0.0 for call in reply.calls if call.name in tools), default=0
            )
            if used_s and used_s + longest_s > self._programs_s:
                return f"programs of the policy have run for {used_s:.0f} s (environment.timeout_s)"
            began_s = time.monotonic()
            results = await _together(reply.calls, tools)
            used_s += min(longest_s, time.monotonic() - began_s)  # the wait for a free place is not the policy's
            num_invalid = num_invalid + 1 if any(is_invalid for _, is_invalid in results) else 0
            if num_invalid >= self._max_invalid_calls:
                return f"{num_invalid} turns in a row with an invalid call (environment.max_invalid_calls)"
            reply = await policy([_message(call, told) for call, (told, _) in zip(reply.calls, results, strict=True)])
        return ""

    async def _score(self, opened: Sequence[tuple[OpenTools, ToolSource]], told: str) -> Any:
        for some, source in opened:
            if some.get_reward is not None:
                try:
                    return await some.get_reward()
                except Exception as error:
                    raise ToolFault(f"tool {source.name}: get_reward: {describe_error(error, source.file)}") from error
        return Score(value=None, status=Status.SKIPPED, reason=told or NO_SCORE)


async def _together(
    calls: Sequence[ToolCall], tools: Mapping[str, tuple[Tool, ToolSource]]
) -> list[tuple[str | FoundPassages, bool]]:
    """Run calls at the same time; return what each tells, and whether it was invalid, in the order of the calls."""
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(_run(call, tools)) for call in calls]
    except BaseExceptionGroup as several:
        first = several.exceptions[0]  # the first fault cancels the others
    else:
        return [task.result() for task in running]
    raise first


async def _run(call: ToolCall, tools: Mapping[str, tuple[Tool, ToolSource]]) -> tuple[str | FoundPassages, bool]:
    if call.name not in (*tools, UNKNOWN):
        return f"error: there is no tool '{call.name}'; the tools are: {', '.join(tools)}", True
    if call.problem:
        return f"error: the call cannot be read: {call.problem}", True
    tool, source = tools[call.name]
    if problem := argument_problem(call.arguments, tool.parameters):
        return f"error: wrong arguments for {call.name}: {problem}", True
    try:
        with waiting(f"the tool {call.name}", deadline_s=tool.timeout_s):
            async with asyncio.timeout(tool.timeout_s) as deadline:
                result = await tool.call(call.arguments)
                return result if isinstance(result, FoundPassages) else as_text(result), False
    except ToolError as error:
        return f"error: {error}", False
    except ToolFault:
        raise
    except Exception as error:
        if not deadline.expired():
            raise ToolFault(f"tool {call.name}: {describe_error(error, source.file)}") from error
        late = f"no result within {tool.timeout_s:g} s (tools.{source.name}.timeout_s)"
        raise ToolFault(f"tool {call.name}: {late}") from error


def as_text(result: Any) -> str:
    """Return the result of a tool as the model is told it: a text as it is, other values as JSON.

    Raises:
        TypeError: It holds an object that Python shows by its address, such as a generator.
    """
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """Return a value that JSON lacks, such as a date, as a text that is the same in every process."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)  # their own order differs from process to process
    text = str(value)
    if _ADDRESS.search(text):
        raise TypeError(
            f"the tool returned a {type(value).__name__}, which has no text; return a text, or JSON's types"
        )
    return text


def _message(call: ToolCall, told: str | FoundPassages) -> dict[str, Any]:
    message = {"role": "tool", "tool_call_id": call.id, "name": call.name}
    if isinstance(told, FoundPassages):
        return message | {"content": told.text, PASSAGES: list(told.passages)}
    return message | {"content": told}
