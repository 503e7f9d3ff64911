"""Tools that an agent brings: calls in the replies, and their results in the next request."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from rft.types import Score

from .conftest import END, POLICY, Episode

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}


def test_a_call_and_its_result(play: Any, tokenizer: Any) -> None:
    async def agent(episode: Episode) -> None:
        reply = await episode.ask("2 + 5", tools=[ADD])
        [choice] = reply.choices
        [call] = choice.message.tool_calls
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 2, "b": 5})
        echo = choice.message.to_dict()
        echo["tool_calls"][0]["function"]["arguments"] = '{"b":5,  "a":2}'  # written by another JSON library
        result = {"role": "tool", "tool_call_id": call.id, "content": "7"}
        final = await episode.ask("2 + 5", echo, result, tools=[ADD])
        assert (final.choices[0].message.content, final.choices[0].finish_reason) == ("7", "stop")
        rollout = episode.conversation.rollout(0, Score(value=1.0), policy=POLICY, filler=END)
        assert tokenizer.decode(rollout.prompt_ids) == "<|system|>add<|end|><|user|>2 + 5<|end|><|assistant|>"
        text = "<call>add(2, 5)</call><|end|><|user|>result 7<|end|><|assistant|>7<|end|>"
        assert tokenizer.decode(rollout.completion_ids) == text

    play(agent, "<call>add(2, 5)</call>", "7")


def test_calls_in_a_stream(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        stream = await episode.ask("2 + 5", tools=[ADD], stream=True)
        choices = [chunk.choices[0] async for chunk in stream]
        calls = [call for choice in choices for call in choice.delta.tool_calls or []]
        assert [(call.index, call.function.name) for call in calls] == [(0, "add"), (1, "add")]
        assert choices[-1].finish_reason == "tool_calls"

    play(agent, "<call>add()</call>" * 2, max_completion_tokens=60)


def test_a_call_in_a_turn_that_was_cut_is_none(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        reply = await episode.ask("2 + 5", tools=[ADD], max_tokens=22)
        assert (reply.choices[0].finish_reason, reply.choices[0].message.tool_calls) == ("length", None)
        assert reply.choices[0].message.content == "<call>add(2, 5)</call>"

    play(agent, "<call>add(2, 5)</call>")


def test_tools_that_change(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        await episode.ask("2 + 5", tools=[ADD])
        with pytest.raises(openai.BadRequestError, match="rewritten its history: its tools have changed"):
            await episode.ask("2 + 5", {"role": "assistant", "content": "7"}, "higher")

    play(agent, "7")
