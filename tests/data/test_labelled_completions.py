"""Recorded completions with a label: rows of TRL's format for unpaired preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rft.data.demonstration_rows import RowRenderer
from rft.data.labelled_completions import LabelRenderer, to_labelled_completion
from rft.data.messages import BadRow
from rft.data.order import ShuffledTasks
from rft.data.preference_rows import RECORDED
from rft.data.rendering import Renderer
from rft.models.base_model import load_tokenizer
from rft.types import Split

USER = {"role": "user", "content": "1+2"}
ROW = {"prompt": "1+2", "completion": "3", "label": True, "level": 4}


def labelled(content: Any) -> Any:
    return to_labelled_completion(content, split=Split.TRAIN, system=None)


@pytest.mark.parametrize(("label", "desirable"), [(True, True), (False, False), (1, True), (0, False)])
def test_what_a_row_becomes(label: Any, desirable: bool) -> None:
    made = labelled(ROW | {"label": label})
    assert (made.messages, made.answer, made.item, made.desirable) == ((USER,), "3", {"level": 4}, desirable)
    assert made.trained == (False, True)


def test_only_the_last_answer_of_a_chat_has_the_label() -> None:
    answers = [{"role": "assistant", "content": text} for text in ("3", "4")]
    made = labelled({"messages": [USER, answers[0], USER, answers[1]], "label": False})
    assert (made.answer, made.trained) == ("4", (False, False, False, True))


def test_both_labels_of_one_answer_are_two_rows() -> None:
    assert labelled(ROW).id != labelled(ROW | {"label": False}).id


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"prompt": "1+2", "completion": "3"}, 'no "label": learner=kto needs to know whether the completion is'),
        (ROW | {"label": "yes"}, "\"label\" must be true or false, not 'yes'"),
        (ROW | {"label": 0.5}, '"label" must be true or false, not 0.5'),
        (ROW | {"label": [True]}, '"label" must be true or false, not a list'),
        ({"prompt": "1+2", "label": True}, 'no "completion"'),
    ],
)
def test_rows_without_a_label_or_an_answer(content: Any, said: str) -> None:
    with pytest.raises(BadRow, match=said):
        labelled(content)


def test_a_group_of_one_completion(tiny_model: Path) -> None:
    tokenizer: Any = load_tokenizer(tiny_model, None, needs_template=True)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    rows = RowRenderer(renderer=Renderer(tokenizer), end_ids=frozenset({end}), eos_id=end)
    renderer = LabelRenderer(rows=rows)
    good, bad = labelled(ROW), labelled(ROW | {"completion": "45", "label": False})
    assert renderer.group(good).rewards == [1.0]
    group = renderer.group(bad)
    (rollout,) = group.rollouts
    assert (group.rewards, rollout.policy) == ([0.0], RECORDED)
    assert rollout.prompt_ids == rows.renderer.render(bad)
    assert tokenizer.decode(rollout.completion_ids) == "45<|end|>"
    assert renderer.length(bad) == len(rollout.prompt_ids) + 3
    assert renderer.trained_text(bad, tokenizer) == "45<|end|> (undesirable)"
    order = renderer.ordered(ShuffledTasks([good, bad], 2, seed=0))
    assert order.metrics(order.of_step(1)) == {"labelled/completions": 2.0, "labelled/tokens": 5.0}
