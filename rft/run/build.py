"""Builds the parts of a run from its configuration: engines, fleet, learner and panel."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rft.cluster import Workplace
from rft.cluster.mirrored_learner import MirroredLearner
from rft.config import EvaluateConfig, RunConfig
from rft.config.mixture import graders_by_family
from rft.data.messages import has_prompt
from rft.events import Emit, GraderCallRepeated, Warned
from rft.grading.panel import Panel
from rft.grading.processes.fork_server import ForkServers
from rft.learning.remote import RemoteLearner
from rft.learning.spec import LearnerSpec
from rft.memory import Sizes
from rft.run.forecast.in_flight import completions_in_flight
from rft.run.forecast.memory import memory_share, served_rank, serving
from rft.run.inputs.prepare import Prepared
from rft.sampling.canaries import choose_canaries
from rft.sampling.engines import Engines
from rft.sampling.fleet import Fleet
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Adapter, Task

CANARY_PROMPTS = 64
"""Maximum number of training prompts, evenly spaced, from which canaries are made."""


def canaries(config: RunConfig | EvaluateConfig, prepared: Prepared) -> tuple[tuple[int, ...], ...]:
    """Return the token sequences that learner and samplers score; empty without training tasks."""
    tasks = prepared.tasks.train
    some = tasks[:: max(1, len(tasks) // CANARY_PROMPTS)]
    return choose_canaries(
        [prepared.renderer.render(_with_prompt(task)) for task in some],
        num_tokens=config.sampler.num_canary_tokens,
        max_context_tokens=prepared.context_tokens,
    )


def _with_prompt(task: Task) -> Task:
    """Return the task; one without a prompt, which its environment begins, with its columns as the prompt."""
    if has_prompt(task.messages):
        return task
    columns = json.dumps(dict(task.item), sort_keys=True, default=str)
    return replace(task, messages=(*task.messages, {"role": "user", "content": columns}))


def lora_rank(config: RunConfig | EvaluateConfig, prepared: Prepared, adapter: Adapter | None = None) -> int | None:
    """Return the largest rank of the served adapters; None if all weights are trained.

    Args:
        config: Configuration of the run or evaluation.
        prepared: Its inputs.
        adapter: The adapter of an evaluation.
    """
    if isinstance(config, RunConfig):
        rank = config.learner.adapter.served_rank
        return None if rank is None else rank + prepared.rank_below
    return served_rank(adapter)


def engine_spec(
    config: RunConfig | EvaluateConfig,
    prepared: Prepared,
    place: Workplace,
    *,
    max_lora_rank: int | None,
    sleeps: bool = False,
) -> EngineSpec:
    """Return the spec of every sampler's engine; `sleeps`: whether it frees its memory while the learner works."""
    there = EnginePlace(model=place.model, num_threads=place.shares.sampler_threads, num_gpus=place.shares.sampler_gpus)
    dtype = config.model.weights_dtype(on_gpu=there.on_gpu)
    return EngineSpec(
        sampler=config.sampler,
        base=prepared.base,
        dtype=dtype,
        serve=serving(config, prepared, dtype),
        max_lora_rank=max_lora_rank,
        max_context_tokens=prepared.context_tokens,
        canaries=canaries(config, prepared),
        seed=config.seed,
        staleness=config.loop.staleness if isinstance(config, RunConfig) else 0,
        sleeps=sleeps,
        max_requests=completions_in_flight(config, prepared),
        place=there,
    )


def learner_spec(
    run: RunConfig,
    prepared: Prepared,
    place: Workplace,
    resume_from: Path | None,
    sizes: Sizes,
    score: tuple[tuple[int, ...], ...] | None = None,
) -> LearnerSpec:
    """Return the learner's spec; `score` contains the canaries of shared samplers."""
    on_gpu = place.shares.learner_gpus > 0
    learner, file = run.learner, run.learner.user_file()
    return LearnerSpec(
        # The learner works in a folder of its own.
        run=run.model_copy(update={"graders": {}, "learner": learner.with_user_file(file) if file else learner}),
        model=place.model,
        model_name=prepared.model_name,
        base=prepared.base,
        run_folder=Path(run.output_dir).absolute(),
        completions_per_micro_batch=sizes.completions_per_micro_batch,
        gradient_checkpointing=sizes.gradient_checkpointing,
        dtype=run.model.weights_dtype(on_gpu=on_gpu),
        on_gpu=on_gpu,
        gpu_share=memory_share(place.shares, samplers_sleep=sizes.samplers_sleep),
        num_threads=place.shares.learner_threads,
        canaries=canaries(run, prepared) if score is None else score,
        start=prepared.parent.version_0 if prepared.parent else None,
        resume_from=resume_from,
    )


def engines(spec: EngineSpec, place: Workplace, emit: Emit = lambda event: None) -> Engines:
    """Return the engines, which load the model in the background."""
    return Engines(
        spec,
        actor_options=place.sampler_options,
        nodes=place.sampler_nodes,
        prepare=place.prepare_replacement,
        num_late=place.num_late_samplers,
        until_placed=place.until_placed,
        tell=emit,
    )


def fleet(engines: Engines, config: RunConfig | EvaluateConfig, prepared: Prepared, emit: Emit) -> Fleet:
    """Return the fleet: a run's use of the engines."""
    return Fleet(
        engines,
        config.sampler,
        render=prepared.renderer.render,
        seed=config.seed,
        warn=lambda text: emit(Warned(text=text)),
        tell=emit,
    )


async def learner(
    run: RunConfig,
    prepared: Prepared,
    place: Workplace,
    resume_from: Path | None,
    sizes: Sizes,
    score: tuple[tuple[int, ...], ...] | None = None,
) -> RemoteLearner:
    """Return the learner, which loads its model in each rank; `score` like in `learner_spec`."""
    spec = learner_spec(run, prepared, place, resume_from, sizes, score)
    moved = {mirror: await mirror.move(spec) for mirror in dict.fromkeys(place.mirrors) if mirror is not None}
    specs = [spec if mirror is None else moved[mirror] for mirror in place.mirrors]
    options: dict[str, Any] = {
        "actor_options": place.learner_options,
        "start_timeout_s": run.learner.start_timeout_s,
        "node": place.learner_node,
        # NCCL refuses two ranks on one GPU.
        "backend": "nccl" if place.shares.learner_gpus >= 1 else "gloo",
    }
    if place.mirrors[0] is not None:
        return MirroredLearner(place.mirrors[0], specs, **options)
    return RemoteLearner(specs, **options)


def panel(
    config: RunConfig | EvaluateConfig, prepared: Prepared, emit: Emit, fork_servers: ForkServers | None = None
) -> Panel:
    """Return the panel of graders; the panels of a sweep share the processes that load graders."""
    return Panel(
        prepared.graders,
        max_concurrency=config.grading.max_concurrency,
        max_fault_share=config.grading.max_fault_share,
        fault_window=config.grading.fault_window_completions,
        num_workers=config.grading.num_workers,
        worker_memory_mb=config.grading.worker_memory_mb,
        cache_folder=Path(config.grading.cache_folder).expanduser() if config.grading.cache_folder else None,
        fork_servers=fork_servers,
        log_folder=Path(config.output_dir),
        on_repeat=lambda name, task, reason: emit(GraderCallRepeated(grader=name, task_id=task, reason=reason)),
        families=graders_by_family(config.data),
    )
