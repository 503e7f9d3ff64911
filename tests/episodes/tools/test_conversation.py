"""The tokens of episodes with tools, under Qwen's template, with a policy that follows a script."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rft.data.continuation import Continuation
from rft.data.tool_proofs import call_parser
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.conversation import Conversation, Rules, Tools
from rft.sampling.engine import Request
from rft.turns import Author, calls_of
from rft.types import Policy, Rollout, Score, Split, StopReason, Task
from tests.data.test_continuation import TRL, renderer_for

POLICY = Policy(version=3, fingerprint="9b2e51c07d44a1f0")
SCHEMA = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


class World:
    """An episode whose policy says these texts; a text without an end token was cut."""

    def __init__(self, *texts: str, template: str = "qwen3", **changes: Any) -> None:
        renderer, ends = renderer_for((TRL / f"{template}.jinja").read_text())
        self.tokenizer = renderer._tokenizer
        self.ends = ends
        self.texts = list(texts)
        self.prompts: list[tuple[int, ...]] = []
        settings = {"schemas": (SCHEMA,), "max_result_tokens": {"add": 40}} | changes.pop("tools", {})
        tools = Tools(parser=call_parser(renderer, self.tokenizer), tokenizer=self.tokenizer, **settings)
        limits = {"max_turns": 3, "max_completion_tokens": 100, "context_tokens": 2000} | changes
        self.conversation = Conversation(
            Task(id="t", messages=({"role": "user", "content": "1 + 1"},), item={}, split=Split.TRAIN),
            0,
            seed_parts=(0,),
            rules=Rules(renderer=renderer, continuation=Continuation(renderer, ends), tools=tools, **limits),
            sample=self.sample,
        )

    async def sample(self, request: Request) -> Rollout:
        ids = tuple(self.tokenizer.encode(self.texts[len(self.prompts)], add_special_tokens=False))
        self.prompts.append(request.prompt_ids)
        return Rollout(
            task_id="t",
            index=0,
            prompt_ids=request.prompt_ids,
            completion_ids=ids,
            logprobs=(-1.0,) * len(ids),
            text=self.tokenizer.decode(ids, skip_special_tokens=True),
            stop=StopReason.STOP if ids[-1] in self.ends else StopReason.LENGTH,
            policy=POLICY,
        )

    def say(self, *messages: dict[str, Any], tools: Any = None) -> Reply:
        return asyncio.run(self.conversation.say(messages, tools))

    def rollout(self) -> Rollout:
        return self.conversation.rollout(0, Score(value=1.0), policy=POLICY, filler=0)


def result(call_id: str, content: str = "2") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "name": "add", "content": content}


def test_an_episode_with_two_calls_at_once() -> None:
    world = World(f"Hm.\n{CALL}\n{CALL}<|im_end|>", "2<|im_end|>")
    reply = world.say()
    assert [(call.id, call.name, call.arguments) for call in reply.calls] == [
        ("c00000000", "add", {"a": 1}),
        ("c00000001", "add", {"a": 1}),
    ]
    assert "<tools>" in world.tokenizer.decode(world.prompts[0])
    assert world.say(result("c00000000"), result("c00000001", "3")).calls == ()
    # The next turn continues exactly the tokens that were sampled, and both results are in one turn of the user.
    between = world.tokenizer.decode(world.prompts[1]).removeprefix(
        world.tokenizer.decode(world.prompts[0]) + f"Hm.\n{CALL}\n{CALL}<|im_end|>"
    )
    assert between == (
        "\n<|im_start|>user\n<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    rollout = world.rollout()
    assert world.prompts[1] == (*rollout.prompt_ids, *rollout.completion_ids[: rollout.turns[1].end])
    assert [turn.author for turn in rollout.turns] == [Author.POLICY, Author.ENVIRONMENT, Author.POLICY]
    [message] = rollout.turns[0].messages
    assert (message["content"], len(message["tool_calls"])) == ("Hm.", 2)
    assert calls_of(rollout.turns)[0] == {
        "id": "c00000000",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1}'},
    }
    assert sum(rollout.trained) == rollout.turns[0].end + len("2") + 1


def test_a_call_that_was_cut_is_not_read() -> None:
    """Half a turn may hold a whole call; it was not the policy's last word."""
    world = World(f"{CALL}\n<tool_call>")
    reply = world.say()
    assert (reply.stop, reply.calls) == ("length", ())
    assert calls_of(world.rollout().turns) == []
    assert world.rollout().stop is StopReason.LENGTH


def test_a_turn_that_ended_with_another_end_token_is_closed() -> None:
    world = World(f"{CALL}</s>", "2<|im_end|>")
    assert len(world.say().calls) == 1
    world.say(result("c00000000"))
    after = world.tokenizer.decode(world.prompts[1]).partition("</s>")[2]
    assert after.startswith("<|im_end|>\n<|im_start|>user\n<tool_response>")


def test_a_context_without_room_for_a_result_ends_the_episode_before_the_tool_runs() -> None:
    prompt = len(World("2<|im_end|>").conversation._prompt(()))
    world = World(f"{CALL}<|im_end|>", max_completion_tokens=100, context_tokens=prompt + 100)
    with pytest.raises(EpisodeOver, match="the context has no room for another turn"):
        world.say()
    rollout = world.rollout()
    assert (rollout.stop, len(calls_of(rollout.turns))) == (StopReason.CONTEXT, 1)


def test_a_long_result_loses_its_middle() -> None:
    world = World(f"{CALL}<|im_end|>", "2<|im_end|>")
    world.say()
    world.say(result("c00000000", "a" * 1000 + "b" * 1000))
    [_, turn, _] = world.rollout().turns
    assert turn.messages[0]["content"] == "a" * 20 + "\n[... 1960 tokens left out ...]\n" + "b" * 20


def test_a_cut_keeps_whole_characters() -> None:
    world = World(f"{CALL}<|im_end|>", "2<|im_end|>", tools={"max_result_tokens": {"add": 5}})
    world.say()
    world.say(result("c00000000", "\u00e9" * 10))  # two tokens each
    [_, turn, _] = world.rollout().turns
    assert turn.messages[0]["content"] == "\u00e9\n[... 15 tokens left out ...]\n\u00e9"


def test_several_calls_under_a_template_of_one() -> None:
    world = World(f"{CALL}\n{CALL}<|im_end|>", tools={"has_parallel": False})
    [call] = world.say().calls
    assert call.problem == "2 calls in one turn; the model's chat template takes one"


def test_tools_that_an_episode_brings() -> None:
    own = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}
    world = World('<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call><|im_end|>', tools={"schemas": ()})
    assert [call.name for call in world.say(tools=[own]).calls] == ["look"]
    assert '"name": "look"' in world.tokenizer.decode(world.prompts[0])
    with pytest.raises(ValueError, match="the tools of an episode come with its first messages"):
        world.say(result("c00000000"), tools=[own])


def test_an_episode_without_tools_reads_no_calls() -> None:
    world = World(f"{CALL}<|im_end|>", tools={"schemas": ()})
    assert world.say().calls == ()
    assert "<tools>" not in world.tokenizer.decode(world.prompts[0])
