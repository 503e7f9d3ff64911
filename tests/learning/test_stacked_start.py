"""A new adapter on top of a frozen one: the learner trains the new one alone, and publishes the exact sum of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from rft.learning.pack_weights import pack_adapter
from rft.learning.stacked_start import StackedStart
from rft.learning.start_policy import continued
from rft.run_folder.result_folders import save_adapter
from rft.types import Adapter, GradedGroup, Policy

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

IDS = torch.arange(5, 35).unsqueeze(0)
CANARIES = ((10, 11, 12, 20, 21), (10, 11, 12, 30))
REWARDS = [1.0, 0.0, 0.5, 0.0]


@pytest.fixture
def start(make_peft_model: Callable[..., Any]) -> Adapter:
    """An adapter of rank 8 that changes the tiny model, as version 0."""
    return pack_adapter(make_peft_model(seed=1, rank=8), version=0, base_model_name="some/model")


@pytest.fixture
def base(tiny_model: Path) -> Callable[[], Any]:
    return lambda: AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(IDS).logits
    return result


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj"], "layers_to_transform": [0], "use_rslora": True},
    ],
    ids=["all layers", "one layer"],
)
def test_the_published_adapter_is_the_sum(
    start: Adapter, base: Callable[[], Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    stacked = StackedStart(start, continued(base(), start, dropout=0.0), base_model_name="some/model")
    model = get_peft_model(stacked.model, LoraConfig(r=3, lora_alpha=7, task_type="CAUSAL_LM", **options))
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    packed = stacked.pack(model, version=5)
    assert (packed.policy.version, packed.config["r"], packed.config["lora_alpha"]) == (5, 11, 11)
    save_adapter(tmp_path / "adapter", packed, tokenizer=_NoTokenizer(), model_card="")
    served = PeftModel.from_pretrained(base(), tmp_path / "adapter")
    torch.testing.assert_close(logits(served), logits(model), rtol=1e-4, atol=1e-4)
    tensors = safetensors.torch.load(packed.tensors)
    assert {name for name in tensors if tensors[name].shape[0 if "lora_A" in name else 1] != 11} == set()
    # Without the new adapter the model is the start, and without both it is the base model.
    alone = continued(base(), start, dropout=0.0)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(alone), rtol=1e-4, atol=1e-4)
        assert (logits(model) - logits(base())).abs().max() > 0.1
        with stacked.hidden():
            assert torch.equal(logits(model), logits(base()))


class _NoTokenizer:
    def __init__(self) -> None:
        self.init_kwargs: dict[str, Any] = {}

    def save_pretrained(self, folder: str) -> None:
        """Write nothing."""


def test_a_learner_trains_the_new_adapter_alone(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], start: Adapter, tmp_path: Path
) -> None:
    how = {"start": start, "start_mode": "stack", "canaries": CANARIES, "beta": 0.1}
    learner = build(**how)
    version_0 = learner.start_publication()
    assert version_0.weights == start
    assert version_0.canary_logprobs != version_0.base_canary_logprobs
    first = learner.learn([group_for(learner, REWARDS)])
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)  # the reference is the start
    published = learner.publish()
    below, both = (safetensors.torch.load(weights.tensors) for weights in (start, published.weights))
    assert below.keys() == both.keys()
    for name, tensor in both.items():
        if "lora_A" in name:
            assert torch.equal(tensor[:8], below[name])
            assert tensor[8:].shape[0] == 4
        else:
            assert torch.equal(tensor[:, :8], 2.0 * below[name])  # alpha is twice the rank
    assert any(tensor[:, 8:].abs().max() > 0 for name, tensor in both.items() if "lora_B" in name)
    assert published.canary_logprobs != version_0.canary_logprobs
    assert learner.learn([group_for(learner, REWARDS)])["kl"] > 1e-5

    learner.save()
    expected = learner.publish()
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    resumed = build(folder="again", resume_from=checkpoint, **how)
    assert (resumed.start_publication(), resumed.publish()) == (version_0, expected)


def test_a_continued_sum_is_one_adapter(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], start: Adapter
) -> None:
    learner = build(start=start, start_mode="stack", canaries=CANARIES)
    learner.learn([group_for(learner, REWARDS)])
    end = learner.publish()
    weights: Adapter = end.weights
    again = replace(weights, policy=Policy(version=0, fingerprint=weights.policy.fingerprint))
    continuing = build(folder="on", start=again, canaries=CANARIES, adapter={"rank": 12, "alpha": 12})
    for ours, theirs in zip(continuing.start_publication().canary_logprobs, end.canary_logprobs, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
