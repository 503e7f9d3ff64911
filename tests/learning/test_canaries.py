"""Canaries scored by a tiny model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from rft.learning.canaries import score_canaries

CANARIES = ((5, 6, 7, 8, 9), (20, 21, 22))
ROUNDING = 1e-4
"""Of float32 in a log-probability; dropout and an adapter change it by more than 1e-2."""


def one_by_one(model: Any) -> list[list[float]]:
    """Each canary alone, without padding, token by token."""
    found = []
    for canary in CANARIES:
        with torch.no_grad():
            probabilities = model(torch.tensor([canary])).logits[0].double().softmax(-1)
        found.append([probabilities[place, token].log().item() for place, token in enumerate(canary[1:])])
    return found


def test_scores_are_those_of_each_canary_alone(make_peft_model: Callable[..., Any], tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    adapted = make_peft_model(seed=1)
    for model in (base, adapted):
        scores = score_canaries(model, CANARIES)
        assert [len(row) for row in scores] == [4, 2]
        for row, expected in zip(scores, one_by_one(model), strict=True):
            assert list(row) == pytest.approx(expected, abs=ROUNDING)
    assert score_canaries(base, CANARIES)[0] != pytest.approx(score_canaries(adapted, CANARIES)[0], abs=1e-2)


def test_dropout_is_off_and_the_mode_comes_back(make_peft_model: Callable[..., Any]) -> None:
    model = make_peft_model(seed=1)
    expected = score_canaries(model, CANARIES)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    for module in model.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = torch.nn.Dropout(0.5)
    model.train()
    for row, other in zip(score_canaries(model, CANARIES), expected, strict=True):
        assert row == pytest.approx(other, abs=ROUNDING)
    assert model.training
    assert not model.eval().training
    score_canaries(model, CANARIES)
    assert not model.training


def test_no_canaries_no_scores(make_peft_model: Callable[..., Any]) -> None:
    assert score_canaries(make_peft_model(seed=1), ()) == ()
