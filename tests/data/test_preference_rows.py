"""The pairs of preferences: a prompt has the tokens that a sampler completes, and answers those of demonstrations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rft.data.demonstration_rows import RowRenderer
from rft.data.order import ShuffledTasks
from rft.data.preference_rows import RECORDED, PairRenderer
from rft.data.preferences import to_preference
from rft.data.rendering import Renderer
from rft.models.base_model import load_tokenizer
from rft.types import Split, StopReason


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model, None, needs_template=True)


@pytest.fixture(scope="module")
def renderer(tokenizer: Any) -> PairRenderer:
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    rows = RowRenderer(renderer=Renderer(tokenizer), end_ids=frozenset({end}), eos_id=end)
    return PairRenderer(rows=rows)


ROW = {"prompt": "1+2", "chosen": "3", "rejected": "four"}


def test_a_group_of_two_answers(renderer: PairRenderer, tokenizer: Any) -> None:
    preference = to_preference(ROW, split=Split.TRAIN, system=None)
    group = renderer.group(preference)
    prompt = renderer.rows.renderer.render(preference)
    assert [rollout.prompt_ids for rollout in group.rollouts] == [prompt, prompt]
    assert [tokenizer.decode(rollout.completion_ids) for rollout in group.rollouts] == ["3<|end|>", "four<|end|>"]
    assert group.rewards == [1.0, 0.0]
    for index, rollout in enumerate(group.rollouts):
        assert (rollout.index, rollout.stop, rollout.policy) == (index, StopReason.STOP, RECORDED)
        assert all(map(math.isnan, rollout.logprobs))
    assert renderer.length(preference) == len(prompt) + 5
    assert renderer.trained_text(preference, tokenizer) == "3<|end|> > four<|end|>"


def test_the_sizes_of_a_batch(renderer: PairRenderer) -> None:
    rows = [ROW, ROW | {"prompt": "2+2"}, ROW | {"prompt": "3+2"}]
    preferences = [to_preference(row, split=Split.TRAIN, system=None) for row in rows]
    order = renderer.ordered(ShuffledTasks(preferences, 2, seed=0))
    assert order.metrics(order.of_step(1)) == {"preferences/pairs": 2.0, "preferences/answer_tokens": 14.0}
    assert order.of_step(3) == order.of_step(3)
