"""Each method of `learner.adapter`: the first step trains it, and the published weights are those that it scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from rft.learning.canaries import score_canaries
from rft.models.weight_files import read_weights
from rft.sampling.full_weights import tensors_in
from rft.sampling.lora_modules import take_apart
from rft.sampling.merging import BaseWeights, merge, touched
from rft.types import Adapter, GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

CANARIES = ((10, 11, 12, 20, 21), (10, 11, 12, 30))
REWARDS = [1.0, 0.0, 0.5, 0.0]
METHODS: list[dict[str, Any]] = [
    {"method": "lora", "rank": 4, "layers": [1], "modules": ["q_proj", "mlp"]},
    {"method": "rslora", "rank": 4, "alpha": 8},
    {"method": "dora", "rank": 4, "alpha": 8},
    {"method": "vera", "rank": 16},
    {"method": "ia3"},
    {"method": "partial", "layers": [1]},
    {"method": "partial", "modules": ["norm", "down_proj"]},
]


def served_model(tiny_model: Path, weights: Any) -> Any:
    """The base model with published weights, merged by the code of the samplers."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    if isinstance(weights, Adapter):
        base, parts = BaseWeights(tiny_model), take_apart(weights)
        tensors = {name: merge(base, parts, name, torch.float32) for name in touched(base, parts)}
    else:
        tensors = tensors_in(weights.tensors)
    result = model.load_state_dict(tensors, strict=False)
    assert result.unexpected_keys == []
    return model


@pytest.mark.parametrize("adapter", METHODS, ids=lambda adapter: f"{adapter['method']}-{list(adapter)[1:2]}")
def test_the_published_weights_are_those_that_the_learner_scores(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], tiny_model: Path, adapter: dict[str, Any]
) -> None:
    learner = build(adapter=adapter, canaries=CANARIES, learning_rate=5e-2)
    config = learner._spec.run.learner.adapter
    assert sum(weight.numel() for weight in learner._trained()) == config.num_trained(read_weights(tiny_model).tensors)
    start = learner.publish()
    # The first step moves only the side of an adapter that starts at 0; the second one moves all of it.
    learner.learn([group_for(learner, REWARDS)])
    first = learner.publish()
    assert first.policy.fingerprint != start.policy.fingerprint
    learner.learn([group_for(learner, REWARDS)])
    published = learner.publish()
    assert isinstance(published.weights, Adapter) == (config.publishes == "adapter")
    for publication, scores_differ in ((start, False), (published, True)):
        scored = score_canaries(served_model(tiny_model, publication.weights), CANARIES)
        for ours, theirs in zip(publication.canary_logprobs, scored, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)
        largest = max(
            abs(one - base)
            for ours, plain in zip(scored, publication.base_canary_logprobs, strict=True)
            for one, base in zip(ours, plain, strict=True)
        )
        assert (largest > 1e-3) == scores_differ


@pytest.mark.parametrize("method", ["vera", "ia3"])
def test_publishing_changes_no_bit_of_the_base_model(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], tiny_model: Path, method: str
) -> None:
    learner = build(adapter=method, learning_rate=5e-2)
    for _ in range(2):
        learner.learn([group_for(learner, REWARDS)])
        learner.publish()
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = torch.arange(5, 35).unsqueeze(0)
    model = learner._stepped.trainer.model.eval()
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(ids).logits, base.eval()(ids).logits)


def test_a_partial_run_changes_the_selected_weights_alone(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], tiny_model: Path
) -> None:
    learner = build(adapter={"method": "partial", "layers": [1], "modules": ["mlp"]}, learning_rate=1e-2)
    learner.learn([group_for(learner, REWARDS)])
    before, after = BaseWeights(tiny_model), tensors_in(learner.publish().weights.tensors)
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before.tensor(name))}
    assert changed == {f"model.layers.1.mlp.{name}_proj.weight" for name in ("gate", "up", "down")}


@pytest.mark.parametrize("method", ["dora", "vera", pytest.param("ia3", marks=pytest.mark.full)])
def test_a_resumed_learner_publishes_the_same(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], tmp_path: Path, method: str
) -> None:
    whole = build(adapter=method, canaries=CANARIES)
    whole.learn([group_for(whole, REWARDS)])
    whole.save()
    batch = [group_for(whole, REWARDS)]
    whole.learn(batch)
    resumed = build(
        folder="again", adapter=method, canaries=CANARIES, resume_from=tmp_path / "run" / "checkpoints" / "checkpoint-1"
    )
    resumed.learn(batch)
    assert resumed.publish() == whole.publish()
