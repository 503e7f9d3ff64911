"""Policies written over each other in a real vLLM: merged adapters, and whole models."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM

from rft.config.samplers.vllm import VllmSamplerConfig
from rft.errors import SyncError
from rft.learning.canaries import score_canaries
from rft.learning.pack_weights import pack_adapter
from rft.models.base_model import fingerprint
from rft.sampling.actor import SamplerActor
from rft.sampling.build import build_engine
from rft.sampling.canaries import choose_canaries
from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.merging import BaseWeights
from rft.sampling.proof import Proof, prove
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import FullWeights, Policy, Publication

pytestmark = pytest.mark.e2e

CANARIES = choose_canaries([tuple(range(5, 60)), tuple(range(80, 9, -2))], max_context_tokens=128)


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Any:
    """One engine for the whole file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return build_engine(
            EngineSpec(
                sampler=VllmSamplerConfig(),
                base=Policy(version=0, fingerprint=fingerprint(tiny_model)),
                max_lora_rank=8,
                serve="merged",
                dtype="float32",
                max_context_tokens=128,
                seed=0,
                place=EnginePlace(model=tiny_model, num_threads=1, num_gpus=0),
                canaries=CANARIES,
            )
        )


@pytest.fixture(scope="module")
def sync(engine: Any, tiny_model: Path) -> Callable[[Publication], Proof]:
    """Load through the actor's code, and judge."""
    spec = EngineSpec(
        sampler=VllmSamplerConfig(),
        base=engine.policies[0],
        max_lora_rank=8,
        dtype="float32",
        max_context_tokens=128,
        seed=0,
        place=EnginePlace(model=tiny_model, num_threads=1, num_gpus=0),
        canaries=CANARIES,
    )
    actor = SamplerActor(spec, lambda _: engine)
    _, base = asyncio.run(actor.start())

    def load(publication: Publication) -> Proof:
        return prove(publication, asyncio.run(actor.load(publication.weights)), base, tolerance=1e-4)

    return load


@pytest.fixture(scope="module")
def base_model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def published(model: Any, base_model: Any, weights: Any) -> Publication:
    return Publication(
        weights=weights,
        canary_logprobs=score_canaries(model, CANARIES),
        base_canary_logprobs=score_canaries(base_model, CANARIES),
    )


def whole(model: Any, version: int, **changed: torch.Tensor) -> FullWeights:
    names = BaseWeights(Path(model.config._name_or_path)).names
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items() if name in names} | changed
    data = safetensors.torch.save(tensors)
    return FullWeights(policy=Policy(version=version, fingerprint=hashlib.sha256(data).hexdigest()[:16]), tensors=data)


def test_merged_adapters_are_proved_and_do_not_add_up(
    engine: Any, sync: Callable[[Publication], Proof], make_peft_model: Any, base_model: Any
) -> None:
    first = make_peft_model(seed=1)
    adapter = pack_adapter(first, version=1, base_model_name="base")
    gaps = []
    for version in range(1, 21):
        model = first if version % 2 else make_peft_model(seed=version)
        weights = replace(adapter, policy=replace(adapter.policy, version=version))
        if model is not first:
            weights = pack_adapter(model, version=version, base_model_name="base")
        proof = sync(published(model, base_model, weights))
        assert proof.problems == ()
        assert proof.base_gap.mean > 0.01
        assert engine.policies == (weights.policy,)
        if model is first:
            gaps.append(proof.gap.mean)
    assert gaps == pytest.approx([gaps[0]] * 10, abs=1e-5), "the tenth time the same adapter gives the same numbers"


def test_what_an_older_adapter_changed_goes_back(
    sync: Callable[[Publication], Proof], make_peft_model: Any, tiny_model: Path, base_model: Any
) -> None:
    from peft import LoraConfig, get_peft_model

    everything = make_peft_model(seed=3)
    assert (
        sync(published(everything, base_model, pack_adapter(everything, version=1, base_model_name="b"))).problems == ()
    )
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    one = get_peft_model(plain, LoraConfig(r=4, target_modules=["k_proj"], use_dora=True, task_type="CAUSAL_LM")).eval()
    for name, parameter in one.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    proof = sync(published(one, base_model, pack_adapter(one, version=2, base_model_name="b")))
    assert proof.problems == ()
    assert proof.base_gap.mean > 1e-3


def test_a_whole_model(sync: Callable[[Publication], Proof], tiny_model: Path, base_model: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    proof = sync(published(model, base_model, whole(model, 7)))
    assert proof.problems == ()
    assert proof.base_gap.mean > 0.01
    assert sync(published(base_model, base_model, whole(base_model, 8))).problems == ()


def test_a_whole_model_of_another_make(sync: Callable[[Publication], Proof], base_model: Any) -> None:
    proof = sync(published(base_model, base_model, whole(base_model, 9, **{"model.layers.9.weight": torch.ones(2)})))
    assert "1 of " in proof.problems[0]
    assert "model.layers.9.weight" in proof.problems[0]


def test_another_adapter_than_was_published(
    sync: Callable[[Publication], Proof], make_peft_model: Any, base_model: Any
) -> None:
    model, other = make_peft_model(seed=1), make_peft_model(seed=2)
    honest = published(model, base_model, pack_adapter(model, version=1, base_model_name="b"))
    confused = replace(honest, weights=pack_adapter(other, version=1, base_model_name="b"))
    [problem] = sync(confused).problems
    assert "differ from the learner's by" in problem


def test_nothing_is_overwritten_under_requests(engine: Any, make_peft_model: Any) -> None:
    adapter = pack_adapter(make_peft_model(seed=4), version=4, base_model_name="b")
    engine.load(adapter)
    request = Request(task_id="t", index=0, prompt_ids=(5, 6, 7), seed=1)
    engine.add(1, [request], SamplingOptions(temperature=1.0, max_completion_tokens=8), adapter.policy)
    with pytest.raises(SyncError, match="1 requests of an older policy are still in flight"):
        engine.load(pack_adapter(make_peft_model(seed=5), version=5, base_model_name="b"))
    assert engine.policies == (adapter.policy,)
    engine.abort(1)


def test_a_prefix_cache_that_cannot_be_emptied(engine: Any, make_peft_model: Any, monkeypatch: Any) -> None:
    """Nothing is held afterwards, so nothing is sampled from weights that are half of another policy."""
    adapter = pack_adapter(make_peft_model(seed=4), version=4, base_model_name="b")
    with monkeypatch.context() as patch:
        patch.setattr(engine._engine, "reset_prefix_cache", lambda: False)
        with pytest.raises(SyncError, match="could not empty its prefix cache"):
            engine.load(adapter)
    assert engine.policies == ()
    with pytest.raises(SyncError, match=r"asked for policy-v4-.* but holds none"):
        engine.add(1, [], SamplingOptions(temperature=1.0, max_completion_tokens=8), adapter.policy)
    assert engine.load(adapter).problems == ()
