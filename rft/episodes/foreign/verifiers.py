"""Environments of verifiers 0.1 (https://github.com/PrimeIntellect-ai/verifiers), such as `MultiTurnEnv`, `ToolEnv`.

verifiers plays the episode itself: its loop asks a client for each turn, and this client asks the policy. Later
versions have no such loop; they use a policy's endpoint.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from rft.episodes.contract import EpisodeOver
from rft.types import Task


def tools_of(environment: Any) -> list[dict[str, Any]]:
    """Return the tools of an environment as OpenAI function schemas."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in environment.tool_defs or ()
    ]


def as_coroutine(environment: Any) -> Callable[..., Awaitable[float]]:
    """Return a coroutine function that plays episodes of an environment; all episodes share it, as in verifiers.

    Args:
        environment: The environment.
    """
    # By name, since rft does not depend on it: the environment has imported it already.
    verifiers = importlib.import_module("verifiers")
    client_class = _client_class()

    async def play(task: Task, policy: Any, **_: Any) -> float:
        messages = [dict(message) for message in task.messages] or _opening(environment, task.item)
        row = {**task.item, "prompt": messages, "example_id": task.item.get("example_id", 0)}
        client = client_class(policy, len(task.messages), tools_of(environment))
        state = await environment.rollout(row, client, "policy", {})
        if (error := state.get("error")) is not None and not isinstance(error, verifiers.ToolParseError):
            raise error
        await environment.rubric.score_rollout(state)
        await environment.rubric.cleanup(state)
        return float(state["reward"])

    return play


def _opening(environment: Any, row: Mapping[str, Any]) -> list[Any]:
    """Return the prompt of a row that has a question only, as verifiers builds it."""
    system = [{"role": "system", "content": environment.system_prompt}] if environment.system_prompt else []
    question = [{"role": "user", "content": str(row["question"])}] if "question" in row else []
    return [*system, *(environment.few_shot or ()), *question]


def _client_class() -> Any:
    """Return a client of verifiers whose model is the policy."""
    clients, types = (importlib.import_module(f"verifiers.{name}") for name in ("clients", "types"))
    overlong = importlib.import_module("verifiers").OverlongPromptError

    class PolicyClient(clients.OpenAIChatCompletionsClient):  # type: ignore[misc, name-defined]
        """Says to the policy what it has not heard yet. The base class translates the messages."""

        def __init__(self, policy: Any, num_given: int, tools: Sequence[Mapping[str, Any]]) -> None:
            super().__init__(None)
            self._policy = policy
            self._num_given = num_given
            self._tools = tools
            self._heard: list[Any] = []
            self._names: dict[str, str] = {}

        async def get_response(self, prompt: Any, model: str, sampling_args: Any, tools: Any = None, **_: Any) -> Any:
            """Return the next turn of the policy as a response of verifiers."""
            messages, _ = await self.to_native_prompt(prompt)
            heard = self._heard or messages[: self._num_given]
            if messages[: len(heard)] != heard:
                raise RuntimeError("the environment rewrote what the policy has said or heard; rft only adds to it")
            if [tool.name for tool in tools or ()] != [tool["function"]["name"] for tool in self._tools]:
                raise RuntimeError("the row or the environment has changed the tools; rft declares them once for a run")
            new = [self._named(dict(message)) for message in messages[len(heard) :]]
            try:
                reply = await self._policy(new or None)
            except EpisodeOver as reason:
                # verifiers ends the episode and scores it as it stands, as after any prompt that is too long.
                raise overlong(str(reason)) from reason
            response = self._response(reply)
            said, _ = await self.to_native_prompt([types.AssistantMessage(**_said(response.message))])
            self._heard = [*messages, *said]
            return response

        def _named(self, message: dict[str, Any]) -> dict[str, Any]:
            """Return a message; the result of a tool with the name of the tool."""
            name = self._names.get(message.get("tool_call_id", ""))
            return message if name is None else {**message, "name": name}

        def _response(self, reply: Any) -> Any:
            calls = [call.as_message() for call in reply.calls]
            self._names |= {call["id"]: call["function"]["name"] for call in calls}
            is_cut = reply.stop == "length"
            message = types.ResponseMessage(
                content=reply.text,
                tool_calls=[types.ToolCall(id=call["id"], **call["function"]) for call in calls] or None,
                finish_reason="length" if is_cut else "tool_calls" if calls else "stop",
                is_truncated=is_cut,
            )
            return types.Response(id="policy", created=0, model="policy", message=message)

    return PolicyClient


def _said(message: Any) -> dict[str, Any]:
    return {"content": message.content, "tool_calls": message.tool_calls}
