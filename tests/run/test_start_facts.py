"""Facts after the start, with samplers and a learner in this process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.config.samplers.vllm import VllmSamplerConfig
from rft.errors import SyncError
from rft.events import Notice, Warned
from rft.run.start_facts import cache_events, hold_tolerance
from rft.sampling.actor import Confirmation
from rft.sampling.engine import Loaded, Scores
from rft.sampling.engines import Engines, SamplerHandle
from rft.sampling.fleet import Fleet
from rft.sampling.proof import prove
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Adapter, Logprobs, Policy, Publication


class FakeBaseLearner:
    """Says -1 to each token of the canaries."""

    async def base_canary_logprobs(self) -> Logprobs:
        return ((-1.0, -1.0),)


def fleet(*off: float, dtype: str = "bfloat16", canary_tolerance: float | None = None) -> Fleet:
    """Samplers whose base models differ from the learner's by `off` for each token."""
    spec = EngineSpec(
        sampler=VllmSamplerConfig(canary_tolerance=canary_tolerance),
        base=Policy(version=0, fingerprint="base"),
        max_lora_rank=8,
        dtype=dtype,
        max_context_tokens=64,
        canaries=((1, 2, 3),),
        seed=0,
        place=EnginePlace(model=Path("nowhere"), num_threads=1, num_gpus=1),
    )
    engines = Engines(spec, actor_options=[])
    engines.samplers = tuple(SamplerHandle(f"sampler {number}", None) for number in range(len(off)))
    for sampler, by in zip(engines.samplers, off, strict=True):
        row = (-1.0 - by, -1.0 - by)
        sampler.base = Scores(logprobs=(row,), last=(row[-1],), reused_tokens=0)
    return Fleet(engines, spec.sampler, render=lambda task: (), seed=0)


def hold(fleet: Fleet, resumed: Path | None = None, learner: Any = None) -> dict[str, Any]:
    return asyncio.run(hold_tolerance(fleet, learner or FakeBaseLearner(), resumed))


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        ((0.001,), 0.01),  # at least
        ((0.02,), 0.06),  # three times the gap
        ((0.02, 0.03, 0.015), 0.045),  # of the best sampler
        ((0.02, 0.11), 0.06),  # the second sampler's base model is wrong
        ((0.02, float("nan")), 0.06),
        ((0.05,), 0.1),  # at most
    ],
)
def test_a_tolerance_in_16_bits_is_measured(off: tuple[float, ...], expected: float) -> None:
    measured = fleet(*off)
    assert hold(measured)["proof"]["tolerance"] == measured.tolerance == pytest.approx(expected)


def test_base_models_that_differ_too_much_refuse_the_run() -> None:
    with pytest.raises(SyncError, match=r"sampler 1: its base model differs from the learner's by 0.11 on average"):
        hold(fleet(0.12, 0.11))


def test_the_proof_of_a_wrong_base_model_fails_while_others_go_on() -> None:
    measured = fleet(0.02, 0.08)
    hold(measured)  # a tolerance of 0.06; three times the larger gap would have allowed the wrong base model
    base = ((-1.0, -1.0),)
    policy = Policy(version=1, fingerprint="one")
    publication = Publication(
        weights=Adapter(policy=policy, config={}, tensors=b""), canary_logprobs=base, base_canary_logprobs=base
    )
    problems = []
    for sampler in measured.samplers:
        loaded = Loaded(policy=policy, modules_matched=1, problems=())
        confirmation = Confirmation(loaded=loaded, scores=sampler.base, load_s=0.0, proof_s=0.0)
        problems.append(prove(publication, confirmation, sampler.base, tolerance=measured.tolerance).problems)
    assert problems[0] == ()
    assert problems[1][0].startswith("its base model differs from the learner's by 0.08 on average")


def test_a_resumed_run_keeps_its_tolerance(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"proof": {"tolerance": 0.03}}))
    resumed = fleet(0.001)
    assert hold(resumed, tmp_path) == {"proof": {"tolerance": 0.03}}
    assert resumed.tolerance == 0.03


def test_a_run_of_an_older_rft_measures_when_it_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert hold(fleet(0.02), tmp_path)["proof"]["tolerance"] == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("settings", "expected"), [({"dtype": "float32"}, 1e-4), ({"canary_tolerance": 0.2}, 0.2)], ids=str
)
def test_other_tolerances_are_fixed(settings: dict[str, Any], expected: float) -> None:
    fixed = fleet(0.02, **settings)
    assert hold(fixed) == {}
    assert fixed.tolerance == expected


def test_without_scores_the_tolerance_of_the_dtype_remains() -> None:
    class FakeUnscored:
        async def base_canary_logprobs(self) -> Logprobs:
            return ()

    assert hold(fleet(0.02), learner=FakeUnscored()) == {"proof": {"tolerance": 0.05}}


@pytest.mark.parametrize(("block_size", "warns"), [(16, False), (32, False), (64, True)])
def test_sizes_of_the_cache(block_size: int, warns: bool) -> None:
    """Canaries of 36 tokens."""

    def engines(on_gpu: bool) -> Any:
        facts = {"num_cache_blocks": 12300, "block_size": block_size}
        samplers = (SimpleNamespace(name="sampler 0", facts=facts), SimpleNamespace(name="sampler 1", facts={}))
        spec = SimpleNamespace(place=SimpleNamespace(on_gpu=on_gpu), canaries=((0,) * 36,))
        return SimpleNamespace(samplers=samplers, spec=spec)

    tokens = {16: "196,800", 32: "393,600", 64: "787,200"}[block_size]
    notice, *warnings = cache_events(engines(on_gpu=True))
    text = f"sampler 0: key-value cache for {tokens} tokens (12,300 blocks of {block_size})"
    assert notice == Notice(text=text)
    assert cache_events(engines(on_gpu=False)) == warnings
    assert [type(event) for event in warnings] == [Warned] * warns
