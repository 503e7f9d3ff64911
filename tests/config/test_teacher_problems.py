"""Settings that do not fit a run with a teacher are refused together."""

from __future__ import annotations

import pytest

from rft.config import RunConfig
from rft.config.commands import load_training
from rft.config.teacher_problems import teacher_gpus, teacher_sampler
from rft.errors import ConfigError

QUICK = ("experiment=quickstart", "logging=none")
DISTILL = (*QUICK, "learner=distill", "teacher.path=embedded:tiny")


def load(*words: str) -> RunConfig:
    return load_training([*DISTILL, *words], "/nowhere")


def problems(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_training(words, "/nowhere")
    return list(refused.value.problems)


def test_a_teacher_is_a_model_or_an_adapter() -> None:
    assert load().teacher.path == "embedded:tiny"
    assert load("teacher.path=null", "teacher.adapter=runs/first").teacher.adapter == "runs/first"
    (problem,) = problems(*QUICK, "learner=distill")
    assert problem.startswith("teacher.path is missing: learner=distill learns from a model with the same tokenizer")


def test_only_distillation_has_a_teacher() -> None:
    assert problems(*QUICK, "teacher.path=embedded:tiny", "teacher.adapter=runs/first")[:2] == [
        "teacher.path=embedded:tiny: learner=grpo has no teacher; use learner=distill, or leave it out",
        "teacher.adapter=runs/first: learner=grpo has no teacher; use learner=distill, or leave it out",
    ]


def test_settings_that_do_not_fit_are_refused_together() -> None:
    found = problems(
        *DISTILL, "sampler.temperature=0.7", "sampler.sleep=true", "loop.refill_rounds=2", "graders.teacher.use=exact"
    )
    assert [problem.split(":")[0] for problem in found] == [
        "graders.teacher",
        "sampler.temperature=0.7",
        "sampler.sleep=true",
        "loop.refill_rounds=2",
    ]


def test_what_the_teacher_returns_fits_the_loss() -> None:
    found = problems(*DISTILL, "learner.jsd_beta=0.5")
    assert found == [
        "learner.jsd_beta=0.5: the sampled token alone estimates the reverse KL divergence; use learner.jsd_beta=1, or "
        "teacher.top_logprobs=16"
    ]
    (problem,) = problems(*DISTILL, "teacher.top_logprobs=4", "learner.trl.entropy_coef=0.1")
    assert problem.startswith("learner.trl.entropy_coef=0.1: teacher.top_logprobs=4 replaces TRL's loss")
    (problem,) = problems(*QUICK, "teacher.top_logprobs=4")
    assert problem.startswith("teacher.top_logprobs=4: learner=grpo has no teacher")
    run = load("teacher.top_logprobs=64", "learner.jsd_beta=0", "sampler.engine.max_logprobs=5")
    assert teacher_sampler(run, on_gpu=False).model_dump()["engine"] == {"max_logprobs": 64}


def test_a_server_cannot_be_the_teacher() -> None:
    found = problems(*DISTILL, "sampler=server", "sampler.url=http://127.0.0.1:8000/v1")
    assert "sampler=server: learner=distill starts engines for the teacher" in found[-1]


def test_graders_are_optional_if_nothing_is_measured() -> None:
    unmeasured = ("~graders.correct", "data.test=null", "data.validation=null")
    assert load(*unmeasured).graders == {}
    (problem,) = problems(*DISTILL, "~graders.correct", "data.validation=null")
    assert problem.startswith("graders is empty")
    (problem,) = problems(*QUICK, *unmeasured)
    assert problem.startswith("graders is empty")


def test_one_completion_of_each_prompt_is_enough() -> None:
    assert load("loop.completions_per_prompt=1").loop.completions_per_prompt == 1
    (problem,) = problems(*DISTILL, "loop.completions_per_prompt=1", "loop.prompts_per_step=1")
    assert problem.startswith("loop.prompts_per_step=1: learner=distill needs at least 2 completions in a step")


def test_the_engines_of_the_teacher() -> None:
    run = load("sampler.num_actors=3", "sampler.min_actors=2", "teacher.num_actors=2", "sampler.max_restarts=7")
    sampler = teacher_sampler(run, on_gpu=False)
    assert (sampler.num_actors, sampler.min_actors, sampler.max_restarts) == (2, 1, 7)
    assert teacher_sampler(run, on_gpu=True).model_dump()["engine"] == {"max_num_batched_tokens": 2048}
    assert teacher_gpus(run) == [None, None]
    assert teacher_gpus(load("teacher.num_gpus=0.5")) == [0.5]
    assert teacher_gpus(load("sampler.engine.tensor_parallel_size=2")) == [2.0]
    assert teacher_gpus(load_training(QUICK, "/nowhere")) == []


def mixture(*families: str) -> list[str]:
    return [
        *("data.train=null", "data.validation=null", "data.test=null"),
        *(f"data.mixture.{name}={{source: embedded:{name}/train, graders: [correct]}}" for name in families),
    ]


def test_each_trained_family_needs_a_teacher() -> None:
    words = (*QUICK, "learner=distill", *mixture("chain_sum", "gcd"))
    wrong = ("teacher.by_family={gcd: {}, primes: {path: p}}", "teacher.path=embedded:tiny")
    assert problems(*words, *wrong)[:4] == [
        "teacher.path=embedded:tiny: teacher.by_family gives each family its teacher; leave one of the two out",
        "teacher.by_family.gcd: names no teacher; give path or adapter",
        "teacher.by_family.primes: data.mixture trains no family of this name; it trains chain_sum, gcd",
        "teacher.by_family.chain_sum is missing: each trained family of data.mixture needs a teacher; give path or "
        "adapter",
    ]
    right = "teacher.by_family={chain_sum: {adapter: runs/sums}, gcd: {path: embedded:tiny}}"
    run = load_training([*words, right, "teacher.num_actors=2", "teacher.num_gpus=0.5"], "/nowhere")
    assert teacher_gpus(run) == [0.5] * 4, "two teachers with two actors each"


def test_teachers_by_family_need_families() -> None:
    problem = "teacher.by_family: the run has one family of tasks; give data.mixture, or teacher.path"
    assert problem in problems(*QUICK, "learner=distill", "teacher.by_family={gcd: {path: embedded:tiny}}")
    assert problems(*QUICK, "teacher.by_family={gcd: {path: embedded:tiny}}") == [
        "teacher.by_family=gcd: learner=grpo has no teacher; use learner=distill, or leave it out"
    ]
