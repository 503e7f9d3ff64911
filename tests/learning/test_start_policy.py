"""A learner that continues an adapter: it starts from exactly these weights, and the KL divergence refers to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.errors import LearnError
from rft.types import Adapter, GradedGroup, Policy

# Real libraries are too slow for a unit test.
pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("error:Unable to fetch remote")]

CANARIES = ((10, 11, 12, 20, 21), (10, 11, 12, 30))
REWARDS = [1.0, 0.0, 0.5, 0.0]
KL = {"canaries": CANARIES, "beta": 0.1, "adapter": {"rank": 4, "alpha": 8, "dropout": 0.1}}


@pytest.fixture
def parent(build: Callable[..., Any], group_for: Callable[..., GradedGroup]) -> Any:
    """The last publication of a learner that has taken two steps."""
    learner = build(folder="parent", canaries=CANARIES)
    for _ in range(2):
        learner.learn([group_for(learner, REWARDS)])
    return learner.publish()


@pytest.fixture
def start(parent: Any) -> Adapter:
    """The parent's adapter as version 0."""
    weights: Adapter = parent.weights
    return replace(weights, policy=Policy(version=0, fingerprint=weights.policy.fingerprint))


def test_version_0_is_the_end_of_the_parent(build: Callable[..., Any], parent: Any, start: Adapter) -> None:
    learner = build(start=start, canaries=CANARIES)
    version_0 = learner.start_publication()
    assert version_0.policy == Policy(version=0, fingerprint=parent.policy.fingerprint)
    assert version_0.weights.tensors == parent.weights.tensors
    assert version_0.canary_logprobs == parent.canary_logprobs != version_0.base_canary_logprobs
    assert version_0.base_canary_logprobs == parent.base_canary_logprobs
    assert learner.publish().policy == version_0.policy
    assert build(folder="new").start_publication() is None


def test_the_kl_divergence_is_that_from_the_start(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], start: Adapter
) -> None:
    continued = build(start=start, **KL | {"adapter": {"rank": 4, "alpha": 8}})
    num_bytes = len(start.tensors) - 8 - int.from_bytes(start.tensors[:8], "little")  # after the header
    assert 4 * sum(weight.numel() for weight in continued._trained()) == num_bytes  # the reference is not trained
    first = continued.learn([group_for(continued, REWARDS)])
    second = continued.learn([group_for(continued, REWARDS)])
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert second["kl"] > 1e-4


def test_a_resumed_learner_knows_its_start(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], start: Adapter, tmp_path: Path
) -> None:
    whole = build(start=start, **KL)
    whole.learn([group_for(whole, REWARDS)])
    batch = [group_for(whole, REWARDS)]
    whole.save()
    expected = (whole.learn(batch)["kl"], whole.publish())

    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    assert not (checkpoint / "ref").exists()
    resumed = build(folder="again", start=start, resume_from=checkpoint, **KL)
    assert resumed.start_publication() == whole.start_publication()
    assert (resumed.learn(batch)["kl"], resumed.publish()) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"policy": Policy(version=0, fingerprint="other")}, "but the adapter of start has other"),
        ({"config": {"target_modules": ["q_proj"]}}, "PEFT does not load all of its tensors unchanged"),
    ],
)
def test_other_weights_than_those_of_the_start_are_refused(
    build: Callable[..., Any], start: Adapter, change: dict[str, Any], said: str
) -> None:
    changed = {**change, "config": {**start.config, **change.get("config", {})}}
    with pytest.raises(LearnError, match=said):
        build(start=replace(start, **changed))


def test_an_adapter_that_is_loaded_frozen_is_refused(
    build: Callable[..., Any], start: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel

    load = PeftModel.from_pretrained
    monkeypatch.setattr(PeftModel, "from_pretrained", lambda *args, **kw: load(*args, **kw | {"is_trainable": False}))
    with pytest.raises(LearnError, match="the model has no trainable weights"):
        build(start=start)
