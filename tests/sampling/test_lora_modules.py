"""What an adapter holds, and which adapters are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rft.errors import SyncError
from rft.models.served_adapters import adapter_problems
from rft.sampling.lora_modules import refuse, scaling_of, some, unmatched_problem
from rft.types import Adapter, Policy

PLAIN: dict[str, Any] = {"r": 8, "lora_alpha": 16}


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        (PLAIN, 2.0),
        (PLAIN | {"use_rslora": True}, 16 / math.sqrt(8)),
        (PLAIN | {"rank_pattern": {"q_proj": 4}}, 4.0),
        (PLAIN | {"alpha_pattern": {"self_attn.q_proj": 24}}, 3.0),
        (PLAIN | {"rank_pattern": {"v_proj": 4}, "alpha_pattern": {}}, 2.0),
    ],
)
def test_the_scaling_of_a_module(config: dict[str, Any], scaling: float) -> None:
    assert scaling_of(config, "model.layers.0.self_attn.q_proj") == scaling


@pytest.mark.parametrize(
    ("config", "told", "merging_helps"),
    [
        ({"use_dora": True}, "use_dora: vLLM does not serve DoRA as an adapter; use sampler.serve=merged", True),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save=lm_head: whole modules are not part of", True),
        ({"r": 16}, "rank 16 exceeds the engine's limit of 8; use sampler.serve=merged", True),
        ({"rank_pattern": {"q_proj": 32}}, "rank 32 exceeds the engine's limit of 8", True),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights=pissa_niter_4 changes the base model", False),
        ({"init_lora_weights": "olora"}, "init_lora_weights=olora changes the base model", False),
        ({"bias": "all"}, "it trains biases, which cannot be served; train with bias=none", False),
    ],
)
def test_adapters_that_cannot_be_served(config: dict[str, Any], told: str, merging_helps: bool) -> None:
    [problem] = adapter_problems(PLAIN | config, merged=False, max_rank=8)
    assert problem.startswith(told)
    assert bool(adapter_problems(PLAIN | config, merged=True, max_rank=None)) is not merging_helps


@pytest.mark.parametrize("init", [True, False, "gaussian", "Gaussian", "eva"])
def test_starts_that_leave_the_base_model_as_it_is(init: bool | str) -> None:
    assert adapter_problems(PLAIN | {"init_lora_weights": init}, merged=False, max_rank=8) == []


def test_all_reasons_are_told_at_once() -> None:
    policy = Policy(version=3, fingerprint="f3")
    adapter = Adapter(policy=policy, config=PLAIN | {"use_dora": True, "r": 64}, tensors=b"")
    with pytest.raises(SyncError, match=r"cannot be served: use_dora.*rank 64 exceeds the engine's limit of 8"):
        refuse(adapter, merged=False, max_rank=8)
    refuse(adapter, merged=True, max_rank=None)


def test_what_is_said_of_modules_that_are_not_there() -> None:
    assert unmatched_problem([], 7) == ()
    [problem] = unmatched_problem(["a", "b"], 5)
    assert problem.startswith("the model lacks 2 of the policy's 7 modules (a, b)")
    [problem] = unmatched_problem([], 0)
    assert "the policy is empty" in problem
    assert some(["a", "b", "c", "d"]) == "a, b, c, ..."
