"""Reads a request for a chat completion: what rft honours, what it ignores and counts, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft.data.messages import BadRow, to_chat, type_name
from rft.types import Message

HONOURED = frozenset(
    {"messages", "model", "tools", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop"}
    | {"return_token_ids", "logprobs"}
)
"""Parameters that have an effect."""
IGNORED = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty"}
    | {"reasoning_effort", "verbosity", "parallel_tool_calls", "user", "metadata", "store", "service_tier"}
    | {"safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
"""Parameters that have no effect: rft samples with the settings of the run. They are counted."""
NEUTRAL: Mapping[str, Sequence[Any]] = {
    "n": (1,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto",),
    "top_logprobs": (0,),
    "modalities": (["text"],),
}
"""Parameters that would change what the policy samples, with the values that do not."""
MAX_STOPS = 16
_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")


class Refused(Exception):
    """A request gets an error instead of a turn.

    Args:
        status: HTTP status. Clients of OpenAI repeat 408, 409, 429 and 5xx, so none of these.
        code: Name of the reason, for programs.
        reason: The reason in words.
    """

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason = status, code, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for a turn.

    Example:
        Asked(messages=({"role": "user", "content": "guess"},), max_tokens=16, stop=("Observation:",))
    """

    messages: tuple[Message, ...]
    """The whole conversation, as the agent sees it."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """The agent's tools, in OpenAI's format."""
    model: str = "policy"
    """The name that the agent gives the model; any name is the policy."""
    max_tokens: int | None = None
    """Longest turn; it can only lower `sampler.max_completion_tokens`."""
    stop: tuple[str, ...] = ()
    """Strings that end the turn before them."""
    streams: bool = False
    """Whether the reply comes as server-sent events."""
    shows_usage: bool = False
    """Whether the events include the number of tokens."""
    shows_ids: bool = False
    """Whether the reply includes the token ids (`return_token_ids`)."""
    shows_logprobs: bool = False
    """Whether the reply includes the log-probability of each token."""
    ignored: tuple[str, ...] = ()
    """Parameters of `IGNORED` that the request sets."""


def read_request(body: Any) -> Asked:
    """Check the body of a request.

    Raises:
        Refused: With everything that is wrong, as status 400.
    """
    if not isinstance(body, dict):
        raise _bad([f"the body must be a JSON object, not {type_name(body)}"])
    given = {name: value for name, value in body.items() if value is not None}
    problems = [
        f"{name}={given[name]!r}: would change what the policy samples, so the run could not learn from it; leave it "
        f"out{'' if name != 'n' else ', and ask once for each reply'}"
        for name, neutral in NEUTRAL.items()
        if name in given and given[name] not in neutral
    ]
    if unknown := sorted(given.keys() - HONOURED - IGNORED - NEUTRAL.keys()):
        problems.append(f"{', '.join(unknown)}: not supported; leave it out")
    messages, streams = _messages(given.get("messages"), problems), given.get("stream", False)
    options = given.get("stream_options", {})
    asked = Asked(
        messages=messages,
        tools=_tools(given.get("tools", []), problems),
        model=str(given.get("model", "policy")),
        max_tokens=_max_tokens(given, problems),
        stop=_stop(given.get("stop", []), problems),
        streams=bool(streams),
        shows_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        shows_ids=bool(given.get("return_token_ids")),
        shows_logprobs=bool(given.get("logprobs")),
        ignored=tuple(sorted(given.keys() & IGNORED)),
    )
    if problems:
        raise _bad(problems)
    return asked


def _bad(problems: Sequence[str]) -> Refused:
    return Refused(400, "invalid_request", "; ".join(problems))


def _messages(messages: Any, problems: list[str]) -> tuple[Message, ...]:
    """Return the messages with text contents, and only with the fields that chat templates know."""
    if isinstance(messages, list):
        # A tool's or a user's message without text is legal, and empty.
        messages = [
            {**each, "content": ""} if isinstance(each, dict) and each.get("content") is None else each
            for each in messages
        ]
    try:
        chat = to_chat(messages, column="messages")
    except BadRow as problem:
        problems.append(str(problem))
        return ()
    if chat[-1]["role"] == "assistant":
        problems.append('"messages" ends with the assistant\'s message, which the policy cannot go on with')
    return tuple({key: message[key] for key in _KEYS if key in message} for message in chat)


def _tools(tools: Any, problems: list[str]) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(tools, list) or not all(
        isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("function"), dict)
        for tool in tools
    ):
        problems.append('tools: must be a list of {"type": "function", "function": {...}}')
        return ()
    return tuple(tools)


def _max_tokens(given: Mapping[str, Any], problems: list[str]) -> int | None:
    limits = [given[name] for name in ("max_completion_tokens", "max_tokens") if name in given]
    if any(type(limit) is not int or limit < 1 for limit in limits):
        problems.append(f"max_tokens: must be a whole number from 1, not {limits[0]!r}")
        return None
    return min(limits, default=None)


def _stop(stop: Any, problems: list[str]) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) and each for each in stops):
        problems.append("stop: must be a text, or a list of texts")
        return ()
    if len(stops) > MAX_STOPS:
        problems.append(f"stop: has {len(stops)} texts; at most {MAX_STOPS} are allowed")
    return tuple(stops)
