"""The tokens of an episode, turn by turn, with a policy that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.data.continuation import Continuation
from rft.data.messages import as_messages
from rft.data.rendering import Renderer
from rft.episodes.contract import EpisodeOver
from rft.episodes.conversation import Conversation, Rules
from rft.episodes.transcript import Transcript
from rft.models.base_model import load_tokenizer
from rft.sampling.engine import Request, request_seed
from rft.turns import Author, Turn
from rft.types import Policy, Rollout, Score, Split, Status, StopReason, Task

POLICY = Policy(version=3, fingerprint="9b2e51c07d44a1f0")
END = 2
WON = Score(value=1.0)


class Script:
    """Samples these turns, one after another, and keeps the requests."""

    def __init__(self, *turns: Sequence[int], stops: Sequence[StopReason] = ()) -> None:
        self.turns = list(turns)
        self.stops = [*stops, *[StopReason.STOP] * len(turns)]
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Rollout:
        self.requests.append(request)
        ids = tuple(self.turns[len(self.requests) - 1])
        return Rollout(
            task_id=request.task_id,
            index=request.index,
            prompt_ids=request.prompt_ids,
            completion_ids=ids,
            logprobs=tuple(-0.1 * (place + 1) for place in range(len(ids))),
            text=f"turn {len(self.requests)}",
            stop=self.stops[len(self.requests) - 1],
            policy=POLICY,
        )


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model, None)


@pytest.fixture
def begin(tokenizer: Any) -> Any:
    """`begin(script, "a prompt", max_turns=2)`: an episode."""

    def make(script: Script, prompt: str | None = "1 + 1", **limits: int) -> Conversation:
        renderer = Renderer(tokenizer)
        rules = {"max_turns": 3, "max_completion_tokens": 4, "context_tokens": 100} | limits
        return Conversation(
            Task(id="t", messages=as_messages(prompt), item={}, split=Split.TRAIN),
            5,
            seed_parts=(0, "train", 1, "t", 2),
            rules=Rules(renderer=renderer, continuation=Continuation(renderer, {END}), **rules),
            sample=script,
        )

    return make


def say(conversation: Conversation, *messages: str | None) -> None:
    async def all_of_them() -> None:
        for message in messages:
            await conversation.say(as_messages(message))

    asyncio.run(all_of_them())


def test_tokens_only_grow(begin: Any, tokenizer: Any) -> None:
    script = Script([30, 31, END], [32, END], [33, END])
    conversation = begin(script)
    say(conversation, None, "higher", "lower")
    rollout = conversation.rollout(2, WON, policy=POLICY, filler=END)

    prompt = tuple(
        tokenizer.apply_chat_template([{"role": "user", "content": "1 + 1"}], add_generation_prompt=True)["input_ids"]
    )
    given = [
        tokenizer.encode(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
            ),
            add_special_tokens=False,
        )
        for text in ("higher", "lower")
    ]
    assert rollout.prompt_ids == prompt
    assert rollout.completion_ids == (30, 31, END, *given[0], 32, END, *given[1], 33, END)
    assert rollout.trained == tuple(
        [True] * 3 + [False] * len(given[0]) + [True] * 2 + [False] * len(given[1]) + [True] * 2
    )
    assert [value for value, trained in zip(rollout.logprobs, rollout.trained, strict=True) if trained] == [
        -0.1, -0.2, pytest.approx(-0.3), -0.1, -0.2, -0.1, -0.2,
    ]  # fmt: skip
    assert {value for value, trained in zip(rollout.logprobs, rollout.trained, strict=True) if not trained} == {0.0}
    # Each request continues exactly the tokens of the one before, with a seed of its own.
    prompts = [request.prompt_ids for request in script.requests]
    assert prompts[1] == (*prompts[0], 30, 31, END, *given[0])
    assert prompts[2] == (*prompts[1], 32, END, *given[1])
    assert [request.seed for request in script.requests] == [
        request_seed(0, "train", 1, "t", 2),
        request_seed(0, "train", 1, "t", 2, 1),
        request_seed(0, "train", 1, "t", 2, 2),
    ]
    assert {request.index for request in script.requests} == {5}
    assert (rollout.index, rollout.stop, rollout.text, rollout.environment) == (2, StopReason.STOP, "turn 3", WON)
    assert [message["content"] for turn in rollout.turns for message in turn.messages] == [
        "turn 1", "higher", "turn 2", "lower", "turn 3",
    ]  # fmt: skip


def test_rewards_by_turn(begin: Any) -> None:
    conversation = begin(Script([30, END], [31, END]))
    with pytest.raises(ValueError, match="a reward needs a turn of the policy before it"):
        conversation.reward(1.0)
    say(conversation, None)
    assert conversation.rewarded is None
    conversation.reward(0.5)
    conversation.reward(0.25)
    say(conversation, "next")
    conversation.reward(-1.0)
    assert conversation.rewarded == -0.25
    turns = conversation.rollout(0, WON, policy=POLICY, filler=END).turns
    assert [turn.reward for turn in turns] == [0.75, None, -1.0]


def test_an_environment_that_speaks_first(begin: Any, tokenizer: Any) -> None:
    conversation = begin(Script([30, END]), None)
    say(conversation, "guess")
    rollout = conversation.rollout(0, WON, policy=POLICY, filler=END)
    assert "guess" in tokenizer.decode(rollout.prompt_ids)
    assert rollout.turns[0] == Turn(
        author=Author.ENVIRONMENT, start=0, end=0, messages=({"role": "user", "content": "guess"},)
    )
    assert rollout.trained == (True, True)


def test_a_turn_that_was_cut_ends_the_episode(begin: Any) -> None:
    conversation = begin(Script([30, 31, 32, 33], stops=[StopReason.LENGTH]))
    say(conversation, None)
    with pytest.raises(EpisodeOver, match=r"cut at sampler\.max_completion_tokens=4"):
        say(conversation, "go on")
    rollout = conversation.rollout(0, WON, policy=POLICY, filler=END)
    assert (rollout.completion_ids, rollout.stop) == ((30, 31, 32, 33), StopReason.LENGTH)


def test_the_limit_of_turns(begin: Any) -> None:
    conversation = begin(Script([30, END], [31, END]), max_turns=2)
    say(conversation, None, "again")
    with pytest.raises(EpisodeOver, match=r"environment\.max_turns=2"):
        say(conversation, "again")
    rollout = conversation.rollout(0, WON, policy=POLICY, filler=END)
    assert (rollout.stop, rollout.completion_ids[-2:]) == (StopReason.TURNS, (31, END))


def test_a_context_without_room(begin: Any) -> None:
    script = Script([30, END], [31, END])
    conversation = begin(script)
    say(conversation, None)
    with pytest.raises(EpisodeOver, match="the context has no room for another turn: 4 tokens after"):
        say(conversation, "x" * 90)
    rollout = conversation.rollout(0, WON, policy=POLICY, filler=END)
    assert (rollout.stop, rollout.completion_ids, len(script.requests)) == (StopReason.CONTEXT, (30, END), 1)


def test_no_room_for_the_first_turn(begin: Any) -> None:
    conversation = begin(Script(), "x" * 98)
    with pytest.raises(EpisodeOver, match="no room"):
        say(conversation, None)
    rollout = conversation.rollout(0, Score(value=0.0, status=Status.NO_ANSWER), policy=POLICY, filler=END)
    assert (rollout.completion_ids, rollout.trained, rollout.stop) == ((END,), (False,), StopReason.CONTEXT)


def test_a_fault_before_the_first_turn_leaves_a_token_that_is_not_trained(begin: Any) -> None:
    fault = Score(value=None, status=Status.ENVIRONMENT_ERROR, reason="refused")
    rollout = begin(Script()).rollout(1, fault, policy=POLICY, filler=END)
    assert (rollout.completion_ids, rollout.logprobs, rollout.trained) == ((END,), (0.0,), (False,))
    assert (rollout.stop, rollout.environment, rollout.policy) == (StopReason.ABORT, fault, POLICY)


def test_a_turn_without_a_token(begin: Any) -> None:
    """A stop string may end a turn at once; an episode of such turns has a token that is not trained."""
    conversation = begin(Script([]))
    say(conversation, None)
    rollout = conversation.rollout(0, WON, policy=POLICY, filler=END)
    assert (rollout.completion_ids, rollout.trained, rollout.stop) == ((END,), (False,), StopReason.STOP)
    assert [(turn.author, turn.start, turn.end) for turn in rollout.turns] == [
        (Author.POLICY, 0, 0),
        (Author.ENVIRONMENT, 0, 1),
    ]


def test_what_cannot_be_said(begin: Any) -> None:
    with pytest.raises(ValueError, match="there is nothing to answer"):
        say(begin(Script(), None), None)
    conversation = begin(Script([30, END]))
    say(conversation, None)
    with pytest.raises(ValueError, match="say something to the policy after its turn"):
        say(conversation, None)


def test_a_transcript_refuses_what_does_not_continue_it() -> None:
    transcript = Transcript((1, 2), POLICY)
    turn = {
        "task_id": "t",
        "index": 0,
        "completion_ids": (3,),
        "logprobs": (-1.0,),
        "text": "",
        "stop": StopReason.STOP,
    }
    for prompt_ids, policy in (((1,), POLICY), ((1, 2), Policy(version=4, fingerprint="0"))):
        with pytest.raises(ValueError, match="does not continue the tokens"):
            transcript.add_sampled(Rollout(prompt_ids=prompt_ids, policy=policy, **turn))  # type: ignore[arg-type]
