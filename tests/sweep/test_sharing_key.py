"""Who may share engines with whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rft.config import RunConfig
from rft.config.commands import load_training
from rft.sweep.shared_engines import sharing_key, why_alone
from rft.types import Policy

from .conftest import INPUTS, StandIn


def run(*words: str, folder: str = "/nowhere") -> RunConfig:
    return load_training(["experiment=quickstart", *words], folder)


RUN = run()


@pytest.mark.parametrize(
    "words",
    [
        ("seed=5",),
        ("learner.adapter.rank=64", "loop.staleness=3"),
        ("learner.learning_rate=1e-5", "sampler.temperature=0.7", "sampler.stop=[end]"),
        ("learner=sft", "data.train=embedded:chain_sum/demonstrations"),
        ("learner=raft",),
        ("learner=dpo",),
        ("learner=kto",),
        ("learner=distill", "teacher.path=embedded:tiny"),
        ("learner.adapter=rslora", "learner.adapter.layers=[0]"),
        ("sampler.serve=adapter",),  # what null is where engines are shared
    ],
)
def test_what_may_differ(words: tuple[str, ...]) -> None:
    other = run(*words, folder="/else")
    assert sharing_key(other, INPUTS) == sharing_key(RUN, INPUTS)
    assert why_alone(other, INPUTS) is None


@pytest.mark.parametrize(
    "word",
    [
        "sampler=transformers",
        "sampler.num_actors=2",
        "sampler.engine.gpu_memory_utilization=0.5",
        "model.dtype=bfloat16",
        "cluster.start_timeout_s=7",
    ],
)
def test_settings_that_may_not(word: str) -> None:
    assert sharing_key(run(word), INPUTS) != sharing_key(RUN, INPUTS)


@pytest.mark.parametrize(
    "different",
    [
        replace(INPUTS, model=Path("other")),
        replace(INPUTS, base=Policy(version=0, fingerprint="other")),
        replace(INPUTS, context_tokens=128),
    ],
)
def test_models_that_may_not(different: StandIn) -> None:
    assert sharing_key(RUN, different) != sharing_key(RUN, INPUTS)


def test_who_must_be_alone(tmp_path: Path) -> None:
    assert why_alone(RUN, INPUTS) is None
    assert why_alone(run("sampler=fake", "learner=fake"), INPUTS) is None
    for method in ("full", "vera", "ia3"):
        assert "changes the base model itself" in str(why_alone(run(f"learner.adapter={method}"), INPUTS))
    partial = run("learner.adapter=partial", "learner.adapter.layers=[0]")
    assert "changes the base model itself" in str(why_alone(partial, INPUTS))
    assert "is merged into the base model" in str(why_alone(run("learner.adapter=dora"), INPUTS))
    placed = run("environment.use=embedded:guess_number", "environment.placement=samplers")
    assert "beside the trial's own samplers" in str(why_alone(placed, INPUTS))
    assert "sampler.serve=merged" in str(why_alone(run("sampler.serve=merged"), INPUTS))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')  # vLLM serves no adapters beside it
    assert "sampler.serve=merged" in str(why_alone(RUN, replace(INPUTS, model=tmp_path)))
