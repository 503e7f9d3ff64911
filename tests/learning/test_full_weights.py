"""Training every weight of a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM

from rft.types import FullWeights, GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

CANARIES = ((5, 6, 7, 8), (20, 21, 22, 23))

Build = Callable[..., Any]
GroupFor = Callable[..., GradedGroup]


def tensors(learner: Any) -> dict[str, torch.Tensor]:
    weights = learner.publish().weights
    assert isinstance(weights, FullWeights)
    found: dict[str, torch.Tensor] = safetensors.torch.load(bytes(weights.tensors))
    return found


def assert_same_logprobs(found: Any, expected: Any) -> None:
    """Up to the rounding of float32; one step moves them by more than 1e-3."""
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=0, atol=1e-4)


def test_what_is_published(build: Build, group_for: GroupFor, tiny_model: Path) -> None:
    learner = build(adapter="full", canaries=CANARIES, learning_rate=1e-3)
    base = safetensors.torch.load_file(tiny_model / "model.safetensors")
    start = learner.publish()
    assert tensors(learner).keys() == base.keys(), "the names are those of the model's own checkpoint"
    assert_same_logprobs(start.canary_logprobs, start.base_canary_logprobs)
    learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.5])])
    after = learner.publish()
    assert after.policy.version == 1
    assert after.base_canary_logprobs == start.base_canary_logprobs
    trained = tensors(learner)
    assert all((trained[name] - tensor).abs().max() > 1e-5 for name, tensor in base.items())
    # The published tensors are the policy that the canaries were scored under.
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    missing = model.load_state_dict(trained, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}, "tied to the embeddings"
    with torch.no_grad():
        scores = model.eval()(torch.tensor(CANARIES)).logits[:, :-1].log_softmax(-1)
    expected = scores.gather(-1, torch.tensor(CANARIES)[:, 1:, None]).squeeze(-1)
    assert_same_logprobs(after.canary_logprobs, expected)
    assert (expected - torch.tensor(after.base_canary_logprobs)).abs().max() > 1e-3


def test_the_base_is_kept_for_the_kl_term(build: Build, group_for: GroupFor) -> None:
    learner = build(adapter="full", learning_rate=1e-3, beta=0.1)
    first = learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.5])])
    second = learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.5])])
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert second["kl"] > 1e-6


def test_they_travel_in_the_dtype_of_the_model(build: Build) -> None:
    learner = build(adapter="full", dtype="bfloat16")
    assert {tensor.dtype for tensor in tensors(learner).values()} == {torch.bfloat16}
    assert learner._stepped.trainer.model.dtype == torch.float32, "small steps are lost in bfloat16"


def test_a_resumed_run_knows_its_past(build: Build, group_for: GroupFor, tmp_path: Path) -> None:
    whole = build(adapter="full", learning_rate=1e-3, staleness=1, canaries=CANARIES)
    for _ in range(2):
        whole.learn([group_for(whole, [1.0, 0.0, 0.0, 0.5])])
    whole.save()
    resumed = build(
        adapter="full",
        learning_rate=1e-3,
        staleness=1,
        canaries=CANARIES,
        resume_from=tmp_path / "run" / "checkpoints" / "checkpoint-2",
    )
    assert [each.policy for each in resumed.history()] == [each.policy for each in whole.history()]
    assert [each.policy.version for each in resumed.history()] == [1, 2]
    assert resumed.history()[0] == whole.history()[0]
    assert_same_logprobs(resumed.publish().base_canary_logprobs, whole.publish().base_canary_logprobs)
