"""Logits in float32 for models in 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM

from rft.learning.canaries import score_canaries

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
CANARIES = ((5, 6, 7, 8), (9, 10, 11, 12))


def parts(learner: Any) -> tuple[Any, torch.Tensor]:
    """The model, and the hidden states that its output layer receives."""
    model = learner._stepped.trainer.model
    return model, model.get_base_model().get_decoder()(IDS).last_hidden_state


@torch.no_grad()
def test_only_the_output_layer_computes_in_float32_even_within_autocast(build: Callable[..., Any]) -> None:
    model, hidden = parts(build(dtype="bfloat16"))
    weight = model.get_output_embeddings().weight
    assert (hidden.dtype, weight.dtype) == (torch.bfloat16, torch.bfloat16)
    expected = linear(hidden.float(), weight.float())
    assert torch.equal(model(IDS).logits, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.get_output_embeddings()(hidden), expected)


@torch.no_grad()
def test_the_loss_uses_the_same_logits(build: Callable[..., Any]) -> None:
    """At the sampling temperature of 0.7."""
    learner = build(dtype="bfloat16")
    model, hidden = parts(learner)
    logits = linear(hidden.float(), model.get_output_embeddings().weight.float())[0, :-1] / 0.7
    expected = torch.log_softmax(logits, -1).gather(-1, IDS[0, 1:, None])[:, 0]
    of_loss, _, _ = learner._stepped.trainer._get_per_token_logps_and_entropies(model, IDS, torch.ones_like(IDS), 5)
    assert of_loss[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@torch.no_grad()
def test_weights_in_training_are_rounded_as_the_samplers_round_them(build: Callable[..., Any]) -> None:
    model = build(dtype="bfloat16", adapter="full")._stepped.trainer.model
    hidden = model.get_decoder()(IDS).last_hidden_state
    assert hidden.dtype == torch.float32
    assert torch.equal(model(IDS).logits, linear(hidden, model.lm_head.weight.bfloat16().float()))


@pytest.mark.parametrize("adapter", [{"rank": 4, "alpha": 8}, "full"])
def test_base_model_and_policy_are_scored_alike_in_16_bits(build: Callable[..., Any], adapter: Any) -> None:
    """Before the first step the two are the same, and so are their scores, bit for bit."""
    learner = build(dtype="bfloat16", canaries=CANARIES, adapter=adapter)
    published = learner.publish()
    assert published.canary_logprobs == published.base_canary_logprobs == learner.base_canary_logprobs()


def test_base_scores_in_float32_are_those_of_the_untouched_model(build: Callable[..., Any], tiny_model: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert build(canaries=CANARIES).base_canary_logprobs() == score_canaries(plain, CANARIES)


@torch.no_grad()
def test_users_can_keep_16_bits(build: Callable[..., Any]) -> None:
    model, _ = parts(build(dtype="bfloat16", trl={"cast_lm_head_to_fp32": False}))
    assert model(IDS).logits.dtype == torch.bfloat16
