"""Faults planted into a real vLLM: each must be caught at the sync at which it happens, with words that help."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from rft.config.samplers.vllm import VllmSamplerConfig
from rft.learning.pack_weights import pack_adapter
from rft.models.base_model import fingerprint
from rft.sampling.actor import SamplerActor
from rft.sampling.build import build_engine
from rft.sampling.canaries import choose_canaries
from rft.sampling.engine import Loaded, Scores
from rft.sampling.proof import Proof, prove
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Adapter, Logprobs, Policy, Publication

pytestmark = pytest.mark.e2e

CANARIES = choose_canaries(
    [tuple(range(5, 60)), tuple(range(20, 90, 3)), tuple(range(80, 9, -2))], max_context_tokens=128
)
TOLERANCE = 1e-4


@torch.no_grad()
def scores(model: Any) -> Logprobs:
    """What Transformers says to the canaries."""
    ids = torch.tensor(CANARIES)
    logprobs = torch.log_softmax(model(ids).logits[:, :-1].float(), -1)
    return tuple(map(tuple, logprobs.gather(2, ids[:, 1:, None])[..., 0].tolist()))


@pytest.fixture(scope="module")
def publish(make_peft_model: Callable[..., Any], tiny_model: Path) -> Callable[[int], Publication]:
    """`publish(2)`: version 2 of an adapter that really changes the model, as an honest learner publishes it."""
    made: dict[int, Publication] = {}

    def get(version: int) -> Publication:
        if version not in made:
            model = make_peft_model(seed=version)
            with model.disable_adapter():
                base = scores(model)
            adapter = pack_adapter(model, version=version, base_model_name=str(tiny_model))
            made[version] = Publication(weights=adapter, canary_logprobs=scores(model), base_canary_logprobs=base)
        return made[version]

    return get


@dataclass
class Sampler:
    """An actor of the real kind around one engine, and what it said under the base model."""

    engine: Any
    actor: SamplerActor
    base: Scores

    def sync(self, publication: Publication, **how: Any) -> Proof:
        confirmation = asyncio.run(self.actor.load(publication.weights))
        return prove(publication, confirmation, self.base, tolerance=TOLERANCE, **how)


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> EngineSpec:
    return EngineSpec(
        sampler=VllmSamplerConfig(),
        base=Policy(version=0, fingerprint=fingerprint(tiny_model)),
        max_lora_rank=8,
        dtype="float32",
        max_context_tokens=128,
        seed=0,
        place=EnginePlace(model=tiny_model, num_threads=1, num_gpus=0),
        canaries=CANARIES,
    )


@pytest.fixture(scope="module")
def sampler(spec: EngineSpec) -> Sampler:
    """One engine for the whole file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        engine = build_engine(spec)
    actor = SamplerActor(spec, lambda _: engine)
    _, base = asyncio.run(actor.start())
    return Sampler(engine, actor, base)


def changed(publication: Publication, *, config: Any = None, tensors: Any = None) -> Publication:
    """Other weights under the same policy: what an honest learner never publishes."""
    weights = publication.weights
    assert isinstance(weights, Adapter)
    plain = weights.tensors if tensors is None else safetensors.torch.save(tensors)
    policy = pack_policy(weights.policy.version, plain)
    return replace(
        publication, weights=Adapter(policy=policy, config={**weights.config, **(config or {})}, tensors=plain)
    )


def pack_policy(version: int, tensors: bytes) -> Policy:
    return Policy(version=version, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])


def tensors_of(publication: Publication) -> dict[str, torch.Tensor]:
    return dict(safetensors.torch.load(publication.weights.tensors))


def test_syncs_without_a_fault_are_proved(sampler: Sampler, publish: Callable[[int], Publication]) -> None:
    for version in (1, 2, 1):
        proof = sampler.sync(publish(version))
        assert proof.problems == ()
        assert proof.base_gap.mean > 0.01


def test_modules_of_another_model(sampler: Sampler, publish: Callable[[int], Publication]) -> None:
    """vLLM takes such an adapter without a word, and samples the base model."""
    tensors = {name.replace(".layers.", ".blocks."): tensor for name, tensor in tensors_of(publish(3)).items()}
    proof = sampler.sync(changed(publish(3), tensors=tensors))
    num_modules = len(tensors) // 2
    assert (
        f"the model lacks {num_modules} of the policy's {num_modules} modules (model.blocks.0." in (proof.problems[0])
    )
    assert "they equal those of the base model" in proof.problems[-1]


def test_a_layer_that_the_model_has_not(sampler: Sampler, publish: Callable[[int], Publication]) -> None:
    tensors = {name.replace(".layers.0.", ".layers.99."): tensor for name, tensor in tensors_of(publish(3)).items()}
    proof = sampler.sync(changed(publish(3), tensors=tensors))
    assert "7 of " in proof.problems[0]
    assert "model.layers.99.mlp.down_proj" in proof.problems[0]


def test_a_wrong_scaling_in_the_configuration(sampler: Sampler, publish: Callable[[int], Publication]) -> None:
    proof = sampler.sync(changed(publish(3), config={"lora_alpha": 12}))  # it was trained with 16
    [problem] = proof.problems
    assert "they match no known policy: check the adapter's lora_alpha and r" in problem


def lora_layer(sampler: Sampler) -> Any:
    """The first fused layer with LoRA, deep inside vLLM."""
    worker = sampler.engine._engine.engine_core.engine_core.model_executor.driver_worker.worker
    return worker.model_runner.lora_manager._adapter_manager.modules["model.layers.0.self_attn.qkv_proj"]


def test_a_scaling_that_is_applied_twice(
    sampler: Sampler, publish: Callable[[int], Publication], monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = type(lora_layer(sampler))
    original = fused.set_lora

    def twice(self: Any, index: int, lora_a: Any, lora_b: Any) -> None:
        original(self, index, lora_a, [b * 2 for b in lora_b])  # alpha / r is 2

    monkeypatch.setattr(fused, "set_lora", twice)
    proof = sampler.sync(publish(4))
    assert "layers of the engine (model.layers.0.self_attn.qkv_proj, model.layers.1." in proof.problems[0]
    assert "a scaling other than lora_alpha / r" in proof.problems[0]
    assert "differ from the learner's by" in proof.problems[1]


def test_a_stale_adapter_under_the_new_name(
    sampler: Sampler, publish: Callable[[int], Publication], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine reads an older file for the new version."""
    older = publish(1)
    assert sampler.sync(older).problems == ()
    original = sampler.engine._engine.add_lora

    def stale(request: Any) -> Any:
        (Path(request.lora_path) / "adapter_model.safetensors").write_bytes(older.weights.tensors)
        return original(request)

    monkeypatch.setattr(sampler.engine._engine, "add_lora", stale)
    proof = sampler.sync(publish(2), known=[("policy-v1", older.canary_logprobs)])
    assert "the weights differ from the published ones" in proof.problems[0]
    assert "they equal those of policy-v1" in proof.problems[-1]


def test_a_change_too_small_for_the_canaries_is_caught_in_what_was_read_back(
    sampler: Sampler, publish: Callable[[int], Publication], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sampler.engine._engine.add_lora

    def slightly_other(request: Any) -> Any:
        file = Path(request.lora_path) / "adapter_model.safetensors"
        tensors = safetensors.torch.load(file.read_bytes())
        tensors[sorted(tensors)[0]][0, 0] += 1e-6
        file.write_bytes(safetensors.torch.save(tensors))
        return original(request)

    monkeypatch.setattr(sampler.engine._engine, "add_lora", slightly_other)
    [problem] = sampler.sync(publish(2)).problems
    assert problem.startswith("in 1 layers of the engine (model.layers.0.mlp.down_proj) the weights differ")


def test_an_adapter_that_is_loaded_but_not_used(
    sampler: Sampler, publish: Callable[[int], Publication], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dropped sync: what is read back is right, but requests go to the base model."""
    original = sampler.engine._engine.add_request
    monkeypatch.setattr(
        sampler.engine._engine, "add_request", lambda *args, **how: original(*args, **{**how, "lora_request": None})
    )
    [problem] = sampler.sync(publish(2)).problems
    assert "they equal those of the base model: is the new policy loaded but not used?" in problem


def test_a_prefix_cache_that_is_reused(
    sampler: Sampler, publish: Callable[[int], Publication], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name, one path and one salt for all versions, reloaded in place: blocks of the older one are read."""
    from vllm.lora.request import LoRARequest

    engine = sampler.engine._engine
    add_request, add_lora = engine.add_request, engine.add_lora

    def same_name(request: Any, *, in_place: bool = False) -> Any:
        return LoRARequest("policy", 1000, request.lora_path, load_inplace=in_place)

    def request_under_one_name(key: str, prompt: Any, params: Any, lora_request: Any, **others: Any) -> Any:
        always = LoRARequest("policy", 1000, "/always/the/same")
        return add_request(key, {**prompt, "cache_salt": "salt"}, params, lora_request=always, **others)

    monkeypatch.setattr(engine, "add_lora", lambda request: add_lora(same_name(request, in_place=True)))
    monkeypatch.setattr(engine, "add_request", request_under_one_name)
    monkeypatch.setattr(sampler.engine._weights, "_read_back", lambda adapter, number: _believe(adapter))
    assert sampler.sync(publish(1)).problems == ()
    problems = sampler.sync(publish(2)).problems
    engine.remove_lora(1000)
    assert "its prefix cache gave 32 tokens of an older policy to the first request of this policy" in problems[0]
    assert "that of one token differs through the prefix cache by" in problems[1]


def _believe(adapter: Adapter) -> Any:
    return Loaded(policy=adapter.policy, modules_matched=1)


def test_bytes_that_changed_on_the_way(sampler: Sampler, publish: Callable[[int], Publication]) -> None:
    arrived = replace(publish(2).weights, tensors=publish(1).weights.tensors)
    confirmation = asyncio.run(sampler.actor.load(arrived))
    problems = prove(publish(2), confirmation, sampler.base, tolerance=TOLERANCE).problems
    assert f"it holds policy-v2-{publish(1).policy.fingerprint}: the bytes that arrived are not" in problems[0]


def test_after_all_these_a_sync_is_proved_again(sampler: Sampler, publish: Callable[[int], Publication]) -> None:
    assert sampler.sync(publish(5)).problems == ()
    assert sampler.engine.policies == (publish(5).policy,)
