"""A demonstration that `rft pairs` writes of an episode trains the tokens that the policy sampled in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rft.config.pairs import PairsConfig
from rft.data.continuation import Continuation
from rft.data.demonstration_rows import RowRenderer
from rft.data.demonstrations import to_demonstration
from rft.data.messages import as_messages
from rft.data.rendering import Renderer
from rft.episodes.conversation import Conversation, Rules
from rft.models.base_model import load_tokenizer
from rft.run_folder.pair_files import RowMaker
from rft.sampling.engine import Request
from rft.turns import turn_to_json
from rft.types import Message, Policy, Rollout, Score, Split, StopReason, Task

POLICY = Policy(version=0, fingerprint="base")
END = 2


@pytest.mark.parametrize("prompt", [as_messages("1 + 1"), ()], ids=["of the row", "of the environment"])
def test_a_row_has_the_tokens_of_its_episode(tiny_model: Path, prompt: tuple[Message, ...]) -> None:
    tokenizer = load_tokenizer(tiny_model, None)
    renderer = Renderer(tokenizer)
    said = iter(["16", "8", "4"])

    async def sample(request: Request) -> Rollout:
        ids = (*tokenizer.encode(text := next(said), add_special_tokens=False), END)
        how: Mapping[str, Any] = {"task_id": request.task_id, "index": request.index, "stop": StopReason.STOP}
        logprobs = (-0.5,) * len(ids)
        return Rollout(
            prompt_ids=request.prompt_ids, completion_ids=ids, logprobs=logprobs, text=text, policy=POLICY, **how
        )

    rules = Rules(
        renderer=renderer,
        continuation=Continuation(renderer, {END}),
        max_turns=3,
        max_completion_tokens=4,
        context_tokens=100,
    )
    task = Task(id="t", messages=prompt, item={}, split=Split.TRAIN)
    conversation = Conversation(task, 0, seed_parts=(0,), rules=rules, sample=sample)

    async def play() -> None:
        for words in (None if prompt else "1-31", "lower", "lower"):
            await conversation.say(as_messages(words))

    asyncio.run(play())
    rollout = conversation.rollout(0, Score(value=1.0), policy=POLICY, filler=END)
    line = {
        "step": 1,
        "phase": "train",
        "task_id": "t",
        "messages": list(prompt),
        "item": {},
        "completion": rollout.text,
        "num_completion_tokens": len(rollout.completion_ids),
        "stop": rollout.stop,
        "scores": {},
        "reward": 1.0,
        "turns": [turn_to_json(turn) for turn in rollout.turns],
    }
    config = PairsConfig(rows="demonstrations", min_reward=1.0)
    [row] = RowMaker(config, is_raw=False).rows([line])
    demonstration = to_demonstration(row, split=Split.TRAIN, system=None)
    [tokens] = RowRenderer.of(renderer, tokenizer, frozenset({END})).rows(demonstration)
    assert tuple(tokens.ids) == rollout.prompt_ids + rollout.completion_ids
    assert tuple(tokens.trained) == (False,) * len(rollout.prompt_ids) + rollout.trained
    assert sum(tokens.trained) == len("16") + len("8") + len("4") + 3, "each turn with its end token"
