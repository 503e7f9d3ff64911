"""`sampler=server` against vLLM's own server, with adapters that it loads at run time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from rft.config.samplers.server import ServerSamplerConfig
from rft.errors import SampleError, SyncError
from rft.learning.canaries import score_canaries
from rft.learning.pack_weights import pack_adapter
from rft.models.base_model import fingerprint
from rft.run_folder.recorder import read_metrics
from rft.sampling.actor import SamplerActor
from rft.sampling.build import build_engine
from rft.sampling.canaries import choose_canaries
from rft.sampling.engine import Request, SamplingOptions, request_seed, sample_all
from rft.sampling.proof import Proof, prove
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Policy, Publication, Rollout

from .conftest import SMALL, Run
from .vllm_server import KEY, MODEL, vllm_server

pytestmark = [pytest.mark.e2e, pytest.mark.full]

BASE = Policy(version=0, fingerprint=fingerprint(MODEL))
CANARIES = choose_canaries([tuple(range(5, 60)), tuple(range(80, 9, -2))], max_context_tokens=128)
TOLERANCE = 1e-4
REQUESTS = [
    Request(task_id=f"t{i}", index=j, prompt_ids=tuple(range(5 + i, 25 + i)), seed=request_seed(i, j))
    for i in range(4)
    for j in range(4)
]


@pytest.fixture(scope="module", autouse=True)
def _key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SERVER_KEY", KEY)
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of the server's API."""
    with vllm_server(
        *("--dtype", "float32", "--max-num-seqs", "16", "--logprobs-mode", "processed_logprobs"),
        *("--enable-lora", "--max-lora-rank", "16", "--max-loras", "2", "--enable-prompt-tokens-details"),
        *("--no-enable-chunked-prefill", "--block-size", "32"),
        *("--lora-target-modules", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        environment={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "TORCHDYNAMO_DISABLE": "1"},
    ) as url:
        yield url


def spec_of(url: str, **settings: Any) -> EngineSpec:
    return EngineSpec(
        sampler=ServerSamplerConfig(url=url, api_key_env="TEST_SERVER_KEY", **settings),
        base=BASE,
        dtype="float32",
        max_lora_rank=16,
        max_context_tokens=128,
        canaries=CANARIES,
        seed=0,
        place=EnginePlace(model=MODEL, num_threads=1, num_gpus=0),
    )


@pytest.fixture(scope="module")
def engine(url: str) -> Any:
    return build_engine(spec_of(url, temperature=0.7))


@pytest.fixture(scope="module")
def sync(engine: Any) -> Callable[[Publication], Proof]:
    """Load through the actor's code, and judge."""
    actor = SamplerActor(spec_of("http://unused"), lambda _: engine)
    _, base = asyncio.run(actor.start())
    return lambda publication: prove(
        publication, asyncio.run(actor.load(publication.weights)), base, tolerance=TOLERANCE
    )


@pytest.fixture(scope="module")
def base_model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def served(url: str) -> list[str]:
    listed = httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {KEY}"}).json()
    return [model["id"] for model in listed["data"] if model["parent"]]


@torch.no_grad()
def largest_difference(model: Any, rollouts: list[Rollout], temperature: float) -> float:
    """Between the server's log-probabilities and those of a forward pass of Transformers."""
    largest = 0.0
    for rollout in rollouts:
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
        logits = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1].float() / temperature
        computed = torch.log_softmax(logits, -1)[range(len(rollout.completion_ids)), list(rollout.completion_ids)]
        largest = max(largest, float((computed - torch.tensor(rollout.logprobs)).abs().max()))
    return largest


def test_adapters_are_loaded_at_run_time_proved_and_sampled(
    url: str, engine: Any, sync: Callable[[Publication], Proof], base_model: Any, make_peft_model: Any
) -> None:
    options = SamplingOptions(temperature=0.7, max_completion_tokens=24)
    assert largest_difference(base_model, sample_all(engine, REQUESTS, options), 0.7) < TOLERANCE
    for version in (1, 2, 3):
        model = make_peft_model(seed=version)
        publication = Publication(
            weights=pack_adapter(model, version=version, base_model_name="b"),
            canary_logprobs=score_canaries(model, CANARIES),
            base_canary_logprobs=score_canaries(base_model, CANARIES),
        )
        proof = sync(publication)
        assert proof.problems == ()
        assert proof.base_gap.mean > 100 * TOLERANCE
        assert len(served(url)) == 1, "the one before is unloaded"
        rollouts = sample_all(engine, REQUESTS, options)
        assert {rollout.policy for rollout in rollouts} == {publication.policy}
        assert largest_difference(model, rollouts, 0.7) < TOLERANCE
    engine.forget(0)
    assert served(url) == []


def test_an_older_adapter_under_a_new_name_is_found_out(
    engine: Any, sync: Callable[[Publication], Proof], base_model: Any, make_peft_model: Any, monkeypatch: Any
) -> None:
    models = [make_peft_model(seed=seed) for seed in (1, 2)]
    older, newer = [
        Publication(
            weights=pack_adapter(model, version=version, base_model_name="b"),
            canary_logprobs=score_canaries(model, CANARIES),
            base_canary_logprobs=score_canaries(base_model, CANARIES),
        )
        for version, model in enumerate(models, start=1)
    ]
    assert sync(older).problems == ()
    real, held = engine._client.load_adapter, engine._held[-1].folder
    monkeypatch.setattr(engine._client, "load_adapter", lambda name, folder: real(name, held))
    [problem] = sync(newer).problems
    assert "its log-probabilities of the canaries differ from the learner's" in problem


def test_what_the_server_refuses(url: str, engine: Any, make_peft_model: Any, tmp_path: Path) -> None:
    with pytest.raises(SyncError, match=r"must see this folder under the same path \(sampler.adapter_folder\)"):
        asyncio.run_coroutine_threadsafe(
            engine._client.load_adapter("rft-nothing", tmp_path / "nothing"), engine._loop
        ).result()
    too_high = pack_adapter(make_peft_model(seed=4, rank=32), version=5, base_model_name="b")
    with pytest.raises(SyncError, match=r"--max-lora-rank"):
        build_engine(replace(spec_of(url), max_lora_rank=None)).load(too_high)
    with pytest.raises(SampleError, match=r"the server takes \d+ tokens .* --max-model-len 100000"):
        build_engine(replace(spec_of(url), max_context_tokens=100_000))


def test_a_run(url: str, rft: Callable[..., Run], tmp_path: Path) -> None:
    words = ("loop.steps=2", "sampler=server", f"sampler.url={url}", "sampler.api_key_env=TEST_SERVER_KEY")
    before = served(url)
    run = rft("train", *SMALL, *words, "learner.learning_rate=1e-3", "output_dir=run", cwd=tmp_path)
    assert run.code == 0, run.output
    metrics = read_metrics(run.folder)[-1]["metrics"]
    assert (metrics["sync/proved"], metrics["sync/cache_checked"], metrics["sync/actors"]) == (1.0, 1.0, 1.0)
    assert metrics["sync/canary_gap_mean"] < TOLERANCE
    assert served(url) == before, "the run unloaded its adapters"
