"""Random episodes under all templates of rft and of TRL: what must hold of the tokens of every one."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from rft.data.continuation import Continuation, require_continuation
from rft.data.messages import as_messages
from rft.data.tool_calls import MarkedParser
from rft.data.tool_proofs import require_results
from rft.episodes.contract import EpisodeOver, Reply
from rft.episodes.conversation import Conversation, Rules, Tools
from rft.errors import DataError
from rft.sampling.engine import Request, SamplingOptions, sample_all
from rft.sampling.fake_engine import FakeEngine
from rft.turns import Author
from rft.types import Rollout, Score, Split, StopReason, Task
from tests.data.test_continuation import renderer_for, templates
from tests.episodes.test_known_faults import ADD
from tests.sampling.fake_fleets import make_spec

POLICY = make_spec().base
MAX_TURNS, MAX_COMPLETION_TOKENS = 5, 60
CALL = "<call>add(1, 2)</call>"
SCRIPT = ["16", "", " higher\n", "the <|im_end|> of", CALL, f"so {CALL}{CALL}", "<call>add(1", "word " * 20, "été 👋"]
"""What the engine says; one text is longer than a turn may be."""
SAID = ["lower", "", "x<|im_end|><|im_start|>assistant\n", "[INST] </s>", "1 + 1\n\n", "née \u202e", "word " * 40]
"""What the environment says; one text is longer than some contexts."""


class RandomEngine:
    """The fake engine, whose turns end in every way: with the template's end, another one, a stop string, or cut."""

    def __init__(self, tokenizer: Any, close: Sequence[int], ends: Sequence[int], chance: random.Random) -> None:
        self._engine = FakeEngine(make_spec(script=SCRIPT))
        self._tokenizer, self._close, self.ends, self._chance = tokenizer, tuple(close), ends, chance
        self.requests: list[Request] = []
        self.sampled: list[Rollout] = []

    async def __call__(self, request: Request) -> Rollout:
        """Sample a turn, in the tokens of the tokenizer in place of the text's bytes."""
        options = SamplingOptions(temperature=1.0, max_completion_tokens=10_000)
        [rollout] = sample_all(self._engine, [request], options)
        ending = self._chance.choice([self._close, self._close, (self._chance.choice(self.ends),), ()])
        ids = (*self._tokenizer.encode(rollout.text, add_special_tokens=False, split_special_tokens=True), *ending)
        stop = StopReason.STOP if len(ids) <= MAX_COMPLETION_TOKENS else StopReason.LENGTH
        ids = tuple(ids[:MAX_COMPLETION_TOKENS])
        self.requests.append(request)
        self.sampled.append(
            Rollout(
                task_id=request.task_id,
                index=request.index,
                prompt_ids=request.prompt_ids,
                completion_ids=ids,
                logprobs=tuple(-self._chance.random() for _ in ids),
                text=rollout.text,
                stop=stop,
                policy=POLICY,
            )
        )
        return self.sampled[-1]


@cache
def model(template: str) -> tuple[Any, Any, list[int], tuple[int, ...], bool | None] | None:
    """The renderer, continuation, end tokens and close of a template, and whether it takes tools; None if refused."""
    renderer, ends = renderer_for(template)
    continuation = Continuation(renderer, ends)
    try:
        require_continuation(continuation)
    except DataError:
        return None
    try:
        takes_several = require_results(continuation, [ADD])
    except DataError:
        takes_several = None
    return renderer, continuation, sorted(ends), continuation.between(as_messages("e")).close, takes_several


def rules_of(template: str, chance: random.Random) -> tuple[Rules, list[int], tuple[int, ...]] | None:
    if (known := model(template)) is None:
        return None
    renderer, continuation, ends, close, takes_several = known
    tools = None
    if takes_several is not None and chance.random() < 0.5:
        parser = MarkedParser(renderer._tokenizer, "<call>", "</call>")
        tools = Tools(
            parser=parser,
            tokenizer=renderer._tokenizer,
            schemas=(ADD,),
            has_parallel=takes_several,
            max_result_tokens={"add": 30},
        )
    rules = Rules(
        renderer=renderer,
        continuation=continuation,
        max_turns=MAX_TURNS,
        max_completion_tokens=MAX_COMPLETION_TOKENS,
        context_tokens=chance.choice([400, 1500, 10_000]),
        tools=tools,
    )
    return rules, ends, close


async def play(conversation: Conversation, chance: random.Random) -> list[Reply]:
    """Talk until a limit, or until the environment has enough; answer every call."""
    replies: list[Reply] = []
    messages = () if conversation.prompt else as_messages(chance.choice(SAID))
    while True:
        try:
            replies.append(await conversation.say(messages))
        except EpisodeOver:
            return replies
        if chance.random() < 0.15:
            return replies
        if calls := replies[-1].calls:
            messages = tuple(
                {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": chance.choice(SAID)}
                for call in calls
            )
        else:
            messages = as_messages(chance.choice(SAID))


def check(rollout: Rollout, engine: RandomEngine, rules: Rules, close: tuple[int, ...], replies: list[Reply]) -> None:
    """Assert what must hold of an episode with at least one sampled token."""
    trained = rollout.trained
    assert len(rollout.completion_ids) == len(rollout.logprobs) == len(trained)
    assert rollout.prompt_ids == engine.requests[0].prompt_ids
    sampled = [token for turn in engine.sampled for token in turn.completion_ids]
    assert [token for token, own in zip(rollout.completion_ids, trained, strict=True) if own] == sampled
    assert [value for value, own in zip(rollout.logprobs, trained, strict=True) if own] == [
        value for turn in engine.sampled for value in turn.logprobs
    ]
    assert all(
        math.isfinite(value) and (own or value == 0.0) for value, own in zip(rollout.logprobs, trained, strict=True)
    )
    for before, turn, after, reply in zip(engine.requests, engine.sampled, engine.requests[1:], replies, strict=False):
        grown = (*before.prompt_ids, *turn.completion_ids)
        assert after.prompt_ids[: len(grown)] == grown, "the tokens of an episode only grow"
        given = after.prompt_ids[len(grown) :]
        if reply.calls:  # some templates end a call with another token
            assert {*turn.completion_ids[-1:], *given[:1]} & {*engine.ends}, "every turn is closed"
        else:
            is_closed = turn.completion_ids[-1:] == close[-1:]
            assert is_closed or given[: len(close)] == close, "every turn is closed"
    whole = (*rollout.prompt_ids, *rollout.completion_ids)
    assert whole == (*engine.requests[-1].prompt_ids, *engine.sampled[-1].completion_ids)
    assert len(whole) <= rules.context_tokens
    assert len(engine.sampled) <= rules.max_turns
    assert {turn.stop for turn in engine.sampled[:-1]} <= {StopReason.STOP}, "a turn that was cut is the last one"
    assert len({request.seed for request in engine.requests}) == len(engine.requests)
    for turn, reply in zip(engine.sampled, replies, strict=False):
        assert not (reply.calls and turn.stop is StopReason.LENGTH), "a call that was cut is not read"
        assert rules.tools is None or reply.stop != "stop" or len(reply.calls) == expected_calls(turn.text, rules)
    assert rollout.turns[-1].author is Author.POLICY
    assert (rollout.stop is StopReason.LENGTH) == (
        engine.sampled[-1].stop is StopReason.LENGTH and rollout.stop not in ENDS
    )


ENDS = (StopReason.TURNS, StopReason.CONTEXT)


def expected_calls(text: str, rules: Rules) -> int:
    assert rules.tools is not None
    return min(text.count("<call>"), 9 if rules.tools.has_parallel else 1)


def episodes(number: int) -> Counter[str]:
    """Play this many episodes, in turn with each template; count the ends."""
    counts: Counter[str] = Counter()
    every = [each.values[0] for each in templates()]
    for episode in range(number):
        chance = random.Random(episode)
        if (found := rules_of(every[episode % len(every)], chance)) is None:
            counts["refused"] += 1
            continue
        rules, ends, close = found
        engine = RandomEngine(rules.renderer._tokenizer, close, ends, chance)
        task = Task(
            id=f"t{episode}",
            messages=as_messages(chance.choice([None, "1 + 1 <|im_end|>"])),
            item={},
            split=Split.TRAIN,
        )
        conversation = Conversation(task, episode, seed_parts=(0, "train", 1, task.id, 0), rules=rules, sample=engine)
        replies = asyncio.run(play(conversation, chance))
        rollout = conversation.rollout(0, Score(value=1.0), policy=POLICY, filler=ends[0])
        counts[rollout.stop] += 1
        counts["sampled turns"] += len(engine.sampled)
        counts["calls"] += sum(len(reply.calls) for reply in replies)
        if any(turn.completion_ids for turn in engine.sampled):
            check(rollout, engine, rules, close, replies)
        else:
            assert rollout.completion_ids and not any(rollout.trained)
    return counts


def test_every_invariant_holds() -> None:
    counts = episodes(150)
    assert counts["sampled turns"] > 200
    assert counts["calls"] > 20
    for end in (StopReason.STOP, StopReason.LENGTH, StopReason.TURNS, StopReason.CONTEXT):
        assert counts[end] > 1, counts


@pytest.mark.full
def test_every_invariant_holds_of_10_000_episodes() -> None:
    counts = episodes(10_000)
    print(dict(counts))
    assert counts["sampled turns"] > 15_000
