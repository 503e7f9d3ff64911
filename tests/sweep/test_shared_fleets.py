"""Who may share samplers with whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rft.config.commands import load_training
from rft.sweep.shared_fleets import whose_engine, why_alone
from rft.types import Policy

from .conftest import VLLM_SPEC as SPEC

RUN = load_training(["experiment=quickstart"], "/nowhere")


def test_what_may_differ() -> None:
    alike = replace(SPEC, seed=5, max_lora_rank=64, staleness=3, canaries=((1, 2),))
    assert whose_engine(RUN, SPEC) == whose_engine(RUN, alike)
    other = load_training(["experiment=quickstart", "learner.learning_rate=1e-5", "sampler.temperature=0.7"], "/else")
    assert whose_engine(RUN, SPEC) == whose_engine(other, SPEC)


@pytest.mark.parametrize(
    "different",
    [
        {"kind": "transformers"},
        {"model": Path("other")},
        {"base": Policy(version=0, fingerprint="other")},
        {"dtype": "bfloat16"},
        {"max_context_tokens": 128},
        {"options": {"gpu_memory_utilization": 0.5}},
    ],
)
def test_what_may_not(different: dict[str, object]) -> None:
    assert whose_engine(RUN, SPEC) != whose_engine(RUN, replace(SPEC, **different))  # type: ignore[arg-type]


def test_the_number_of_samplers_may_not() -> None:
    more = load_training(["experiment=quickstart", "sampler.num_actors=2"], "/nowhere")
    assert whose_engine(RUN, SPEC) != whose_engine(more, SPEC)


def test_who_must_be_alone() -> None:
    assert why_alone(SPEC) is None
    assert "full fine-tuning" in str(why_alone(replace(SPEC, max_lora_rank=None)))
    assert "sampler.serve=merged" in str(why_alone(replace(SPEC, serve="merged")))
