"""Checks the teacher of a run, and returns the settings of its engines."""

from __future__ import annotations

from typing import Any

from rft.config.learners.distill import DistillLearnerConfig
from rft.config.mixture import trained_families
from rft.config.samplers.base import SamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.config.schema import RunConfig

SCORE_NAME = "teacher"
"""Name of the teacher's score among the scores of a completion."""
SCORED_TOKENS_ON_GPU = 2048
"""`max_num_batched_tokens` of the teacher on a GPU. vLLM keeps the logits of all tokens of a step that it
scores: 5 GB for 8,192 tokens and a vocabulary of 150,000."""

OF_TRLS_LOSS = (
    "delta",
    "entropy_coef",
    "off_policy_mask_threshold",
    "router_aux_loss_coef",
    "top_entropy_quantile",
    "use_adaptive_entropy",
    "use_liger_kernel",
)
"""Options of TRL's loss that the divergence over the teacher's most probable tokens does not have."""


def teacher_sampler(run: RunConfig, *, on_gpu: bool) -> SamplerConfig:
    """Return the settings of the teacher's engines: those of the samplers, with their own number and GPUs."""
    teacher = run.teacher
    changes: dict[str, Any] = {"num_actors": teacher.num_actors, "num_gpus": teacher.num_gpus, "min_actors": 1}
    if isinstance(run.sampler, VllmSamplerConfig):
        engine = ({"max_num_batched_tokens": SCORED_TOKENS_ON_GPU} if on_gpu else {}) | run.sampler.engine
        if teacher.top_logprobs:
            engine["max_logprobs"] = teacher.top_logprobs
        changes["engine"] = engine
    return run.sampler.model_copy(update=changes)


def teacher_gpus(run: RunConfig) -> list[float | None]:
    """Return the configured GPUs of each of the teachers' actors; none without a teacher."""
    if not run.learner.has_teacher:
        return []
    # An engine that spans several GPUs cannot share one.
    spanned = float(run.sampler.gpus_spanned) if run.sampler.gpus_spanned > 1 else None
    actors = run.teacher.num_actors * len(run.teacher.distinct)
    return [spanned if run.teacher.num_gpus is None else run.teacher.num_gpus] * actors


def teacher_problems(run: RunConfig) -> list[str]:
    """Return the problems of distillation, one sentence each."""
    kind, teacher = run.learner.kind, run.teacher
    if not run.learner.has_teacher:
        given = {"teacher.path": teacher.path, "teacher.adapter": teacher.adapter}
        given |= {"teacher.by_family": ", ".join(teacher.by_family) or None}
        given |= {"teacher.top_logprobs": str(teacher.top_logprobs) if teacher.top_logprobs else None}
        return [
            f"{key}={value}: learner={kind} has no teacher; use learner=distill, or leave it out"
            for key, value in given.items()
            if value is not None
        ]
    problems = []
    if teacher.by_family:
        problems += _family_problems(run)
    elif not teacher.is_given:
        problems.append(
            f"teacher.path is missing: learner={kind} learns from a model with the same tokenizer, such as a larger "
            "one of the same family; or give an adapter of the same model in teacher.adapter"
        )
    if SCORE_NAME in run.graders:
        problems.append(
            f"graders.{SCORE_NAME}: learner={kind} records the teacher's score under this name; rename the grader"
        )
    return problems + _divergence_problems(run) + _sampling_problems(run)


def _divergence_problems(run: RunConfig) -> list[str]:
    """Return the settings of the learner that do not fit what the teacher returns."""
    learner, k = run.learner, run.teacher.top_logprobs
    if not isinstance(learner, DistillLearnerConfig):
        return []
    if k:
        return [
            f"learner.trl.{name}={learner.trl[name]}: teacher.top_logprobs={k} replaces TRL's loss by the divergence "
            "from the teacher, where this has no effect; leave it out"
            for name in OF_TRLS_LOSS
            if learner.trl.get(name) is not None
        ]
    if learner.jsd_beta == 1:
        return []
    return [
        f"learner.jsd_beta={learner.jsd_beta:g}: the sampled token alone estimates the reverse KL divergence; use "
        "learner.jsd_beta=1, or teacher.top_logprobs=16"
    ]


def _family_problems(run: RunConfig) -> list[str]:
    """Return the problems of teachers by family: each trained family needs one, and no other has one."""
    teacher, trained = run.teacher, trained_families(run.data)
    problems = [
        f"teacher.{name}={value}: teacher.by_family gives each family its teacher; leave one of the two out"
        for name, value in (("path", teacher.path), ("adapter", teacher.adapter))
        if value is not None
    ]
    if not run.data.mixture:
        return [*problems, "teacher.by_family: the run has one family of tasks; give data.mixture, or teacher.path"]
    for name, of_family in teacher.by_family.items():
        key = f"teacher.by_family.{name}"
        if name not in trained:
            known = ", ".join(trained) or "none"
            problems.append(f"{key}: data.mixture trains no family of this name; it trains {known}")
        elif not of_family.is_given:
            problems.append(f"{key}: names no teacher; give path or adapter")
    return problems + [
        f"teacher.by_family.{name} is missing: each trained family of data.mixture needs a teacher; give path or "
        "adapter"
        for name in trained
        if name not in teacher.by_family
    ]


def _sampling_problems(run: RunConfig) -> list[str]:
    """Return the settings of sampling and loop that do not fit a teacher."""
    kind, sampler, loop = run.learner.kind, run.sampler, run.loop
    problems = []
    if sampler.is_remote:
        problems.append(
            f"sampler={sampler.kind}: learner={kind} starts engines for the teacher, and a server has one model; use "
            "sampler=vllm or sampler=transformers"
        )
    if sampler.temperature != 1:
        problems.append(
            f"sampler.temperature={sampler.temperature:g}: the teacher scores tokens at temperature 1, so the student "
            "must sample at 1 as well; leave it out"
        )
    if sampler.sleeps:
        problems.append(
            "sampler.sleep=true: the teacher does not sleep, so its GPU has no memory to lend; leave it out"
        )
    if loop.refill_rounds:
        problems.append(
            f"loop.refill_rounds={loop.refill_rounds}: learner={kind} learns from every token, and has no groups of "
            "equal rewards to replace; leave it out"
        )
    return problems
