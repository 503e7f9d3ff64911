"""Writes replies in OpenAI's format, whole or as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rft.episodes.endpoint.asked import Asked
from rft.episodes.endpoint.cutting import text_of
from rft.types import Message, Rollout, StopReason

DONE = "data: [DONE]\n\n"


@dataclass(slots=True, kw_only=True)
class Answer:
    """A turn of the policy, for the request that asked for it.

    Example:
        Answer(rollout=rollout, message={"role": "assistant", "content": "16"}, number=3)
    """

    rollout: Rollout
    """The turn."""
    message: Message
    """The turn as a message."""
    number: int
    """Number of the turn in its episode, from 0."""
    is_delivered: bool = False
    """Whether a client was there to receive it."""


def completion(answer: Answer, asked: Asked, tokenizer: Any) -> dict[str, Any]:
    """Return a chat completion. `created` is 0, so that equal episodes get equal replies."""
    message = {"role": "assistant", "content": answer.message["content"] or None, "refusal": None}
    if "reasoning_content" in answer.message:
        message["reasoning_content"] = answer.message["reasoning_content"]
    if calls := answer.message.get("tool_calls"):
        message["tool_calls"] = list(calls)
    elif message["content"] is None:
        message["content"] = ""
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(answer), "logprobs": None}
    reply = _head(answer, asked, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}
    if asked.shows_logprobs:
        choice["logprobs"] = _logprobs(answer, tokenizer)
    if asked.shows_ids:
        reply["prompt_token_ids"] = list(answer.rollout.prompt_ids)
        choice["token_ids"] = list(answer.rollout.completion_ids)
    return reply


def events(reply: dict[str, Any], asked: Asked) -> Iterator[str]:
    """Yield a chat completion as server-sent events."""
    head = {key: reply[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    [choice] = reply["choices"]
    message = choice["message"]
    calls = [{"index": place, **call} for place, call in enumerate(message.get("tool_calls", ()))]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": message["content"]}] if message["content"] else []
    deltas += [{"tool_calls": [call]} for call in calls]
    extra = {"prompt_token_ids": reply["prompt_token_ids"]} if "prompt_token_ids" in reply else {}
    for place, delta in enumerate(deltas):
        of_tokens = place == min(1, len(deltas) - 1)
        tokens = {key: choice[key] for key in ("logprobs", "token_ids") if of_tokens and choice.get(key) is not None}
        yield _event(
            head | (extra if place == 0 else {}), {"index": 0, "delta": delta, "finish_reason": None, **tokens}
        )
    yield _event(head, {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
    if asked.shows_usage:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': reply['usage']})}\n\n"
    yield DONE


def _event(head: dict[str, Any], choice: dict[str, Any]) -> str:
    return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"


def _head(answer: Answer, asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer.number}", "object": kind, "created": 0, "model": asked.model}


def _finish_reason(answer: Answer) -> str:
    """A turn that was cut is never one with calls, whatever it spells."""
    if answer.rollout.stop is not StopReason.STOP:
        return "length"
    return "tool_calls" if answer.message.get("tool_calls") else "stop"


def _usage(answer: Answer) -> dict[str, int]:
    prompt, sampled = len(answer.rollout.prompt_ids), len(answer.rollout.completion_ids)
    return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def _logprobs(answer: Answer, tokenizer: Any) -> dict[str, Any]:
    tokens = zip(answer.rollout.completion_ids, answer.rollout.logprobs, strict=True)
    content = [
        {
            "token": (text := text_of([token], tokenizer)),
            "bytes": list(text.encode()),
            "logprob": logprob,
            "top_logprobs": [],
        }
        for token, logprob in tokens
    ]
    return {"content": content, "refusal": None}
