"""OpenEnv clients (https://github.com/huggingface/OpenEnv): an environment behind a websocket.

A turn of the policy is one action. If the client's action class has a single required text, the turn is this text; else
the turn is a JSON object with the fields of the action. The policy calls the tools of a client for MCP tools, whose
servers give no rewards; graders score these episodes.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args, get_origin

from rft.types import Task

PACKAGE = "openenv"
_NOT_SAID = {"done", "reward", "metadata"}
"""Fields of an observation that the policy does not hear."""


def as_coroutine(make: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """Return a coroutine function that plays an environment behind an OpenEnv client.

    Args:
        make: The client's class, or a function that makes a client. It gets `environment.options`; of these, `columns`
            lists the row's columns that `reset` gets.
    """

    async def play(task: Task, policy: Any, seed: int, columns: tuple[str, ...] = (), **options: Any) -> None:
        async with make(**options) as client:
            # Never the whole row: the server may run the policy's code, and must not know the reference.
            result = await client.reset(seed=seed, **{name: task.item[name] for name in columns})
            has_tools = any(each.__name__ == "MCPClientBase" and _is_own(each) for each in type(client).__mro__)
            await (_call_tools if has_tools else _act)(client, result, policy)

    return play


async def _act(client: Any, result: Any, policy: Any) -> None:
    """Play with actions until the end."""
    action_class = _action_class(type(client))
    said = _text(result.observation)
    while not result.done:
        reply = await policy(said)
        try:
            action = _action(reply.text, action_class)
        except ValueError as problem:
            said = str(problem)
            continue
        result = await client.step(action)
        if result.reward is not None:
            policy.reward(float(result.reward))
        said = _text(result.observation)


async def _call_tools(client: Any, result: Any, policy: Any) -> None:
    """Play with tools until a turn calls none."""
    tools = [
        {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
        for tool in await client.list_tools()
    ]
    if not tools:
        raise RuntimeError("the server offers no tools")
    said = _text(result.observation)
    reply = await policy(
        said if said != "{}" else None, tools=[{"type": "function", "function": tool} for tool in tools]
    )
    while reply.calls:
        reply = await policy(
            [
                {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": await _result(client, call)}
                for call in reply.calls
            ]
        )


async def _result(client: Any, call: Any) -> str:
    """Return the result of a call. The client raises a RuntimeError if the tool or its arguments are to blame."""
    if call.problem:
        return f"error: the call cannot be read: {call.problem}"
    try:
        result = await client.call_tool(call.name, **call.arguments)
    except (RuntimeError, TypeError) as error:
        return f"error: {error}"
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)


def _is_own(each: type) -> bool:
    """Whether a class is OpenEnv's own."""
    return each.__module__.partition(".")[0] == PACKAGE


def _action_class(client: type) -> type | None:
    """Return the class of a client's actions; None for plain dictionaries.

    Raises:
        ValueError: The client does not name it.
    """
    for owner in client.__mro__:
        for base in getattr(owner, "__orig_bases__", ()):
            if isinstance(origin := get_origin(base), type) and _is_own(origin):
                action = get_args(base)[0]
                if hasattr(action, "model_fields"):
                    return action  # type: ignore[no-any-return]
                if get_origin(action) is dict or action is dict:
                    return None
                raise ValueError(
                    f"{client.__name__} has no action class (its first type argument is {action}); subclass it, or use "
                    "openenv's GenericEnvClient, whose actions are JSON objects"
                )
    raise ValueError(f"{client.__name__} is no OpenEnv client")


def _action(text: str, action_class: Any) -> Any:
    """Return the action that a turn means.

    Raises:
        ValueError: It is none; the message tells the policy what is.
    """
    fields = {} if action_class is None else {n: f for n, f in action_class.model_fields.items() if n != "metadata"}
    required = [name for name, field in fields.items() if field.is_required()] or list(fields)
    if len(required) == 1 and fields[required[0]].annotation is str:
        return action_class(**{required[0]: text})
    form = f" with {', '.join(fields)}" if fields else ""
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"{text[:200].strip()!r} is no action; answer with a JSON object{form}")
    if action_class is None:
        return values
    try:
        return action_class.model_validate(values)
    except ValueError as error:  # pydantic's, with a line for each field
        raise ValueError(f"this is no action{form}: {error}") from None


def _text(observation: Any) -> str:
    fields: Mapping[str, Any] = observation if isinstance(observation, Mapping) else observation.model_dump(mode="json")
    said = {name: value for name, value in fields.items() if name not in _NOT_SAID and value is not None}
    if len(said) == 1 and isinstance(only := next(iter(said.values())), str):
        return only
    return json.dumps(said, ensure_ascii=False, default=str)
