"""Builds and starts the engines of a run's teachers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from rft.cluster import Workplace
from rft.config import EvaluateConfig, RunConfig
from rft.errors import SampleError
from rft.events import Emit, Warned
from rft.models.adapter_folder import max_rank
from rft.models.base_model import read_config
from rft.run.inputs.prepare import Prepared
from rft.run.teachers.read_teachers import scored_tokens
from rft.run.teachers.teacher_scores import TeacherPanel
from rft.sampling.engines import Engines
from rft.sampling.fleet import Fleet
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Publication
from rft.waiting import together


class TeacherEngines:
    """The engines of a teacher, with its adapter.

    Args:
        run: The configuration.
        prepared: Its inputs.
        number: Number of the teacher, from 0.
        place: The places of the run's processes.
        emit: Receives lost and replaced processes, and warnings.
    """

    def __init__(self, run: RunConfig, prepared: Prepared, number: int, place: Workplace, emit: Emit) -> None:
        self.teacher = prepared.teachers[number]
        """The teacher."""
        spec = _spec(run, prepared, number, place)
        own = slice(number * run.teacher.num_actors, (number + 1) * run.teacher.num_actors)
        self.engines = Engines(
            spec,
            actor_options=place.teacher_options[own],
            nodes=place.teacher_nodes[own],
            prepare=place.prepare_teachers[number] if place.prepare_teachers else None,
            tell=emit,
            role=self.teacher.role,
        )
        """The engines, which load the model in the background."""
        self.fleet = Fleet(
            self.engines,
            spec.sampler,
            render=prepared.renderer.render,
            seed=run.seed,
            warn=lambda text: emit(Warned(text=text)),
            tell=emit,
        )
        """Scores sequences, and replaces lost processes."""

    async def start(self) -> None:
        """Wait until all engines serve the teacher.

        Raises:
            SampleError: An engine could not be started.
            SyncError: An engine cannot serve the adapter.
            WaitTimeout: The engines did not start in time.
        """
        await self.engines.start()
        if self.teacher.adapter is not None:
            await self.fleet.load(Publication(weights=self.teacher.adapter))


class RunTeachers:
    """The engines of all teachers of a run, and the panel that they form.

    Args:
        run: The configuration.
        prepared: Its inputs, with at least one teacher.
        place: The places of the run's processes.
        emit: Receives lost and replaced processes, and warnings.
    """

    def __init__(self, run: RunConfig, prepared: Prepared, place: Workplace, emit: Emit) -> None:
        self.all = [TeacherEngines(run, prepared, number, place, emit) for number in range(len(prepared.teachers))]
        """The engines of each teacher."""
        families = {family: one.fleet for one in self.all for family in one.teacher.families}
        self.panel = TeacherPanel(
            lambda task: families[task.family] if families else self.all[0].fleet,
            max_fault_share=run.grading.max_fault_share,
            fault_window=run.grading.fault_window_completions,
            top_logprobs=run.teacher.top_logprobs,
        )
        """Scores the completions of training."""

    @property
    def facts(self) -> list[dict[str, Any]]:
        """Facts about the engine of each started actor."""
        return [facts for one in self.all for facts in one.engines.facts]

    async def start(self, start_samplers: Callable[[], Awaitable[None]]) -> None:
        """Start the teachers and the samplers.

        They start in turn if teachers share GPUs: while it sizes its cache, vLLM takes all memory for its own.

        Args:
            start_samplers: Starts the samplers.
        """
        starts = [*(one.start for one in self.all), start_samplers]
        if not self.all[0].engines.spec.place.shares_gpu:
            await together(*(start() for start in starts))
            return
        for start in starts:
            await start()


@asynccontextmanager
async def opened_teachers(
    config: RunConfig | EvaluateConfig, prepared: Prepared, place: Workplace, emit: Emit
) -> AsyncIterator[RunTeachers | None]:
    """Create the engines of a run's teachers, and end their replacements at the end of the block; None without one.

    Args:
        config: The configuration.
        prepared: Its inputs.
        place: The places of the run's processes.
        emit: Receives lost and replaced processes, and warnings.
    """
    if not isinstance(config, RunConfig) or not prepared.teachers:
        yield None
        return
    teachers = RunTeachers(config, prepared, place, emit)
    try:
        yield teachers
    finally:
        await together(*(one.fleet.end_streams() for one in teachers.all))


def start_with(
    teachers: RunTeachers | None, start_samplers: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return a function that starts the teachers, if there are any, and the samplers."""
    return start_samplers if teachers is None else partial(teachers.start, start_samplers)


def _spec(run: RunConfig, prepared: Prepared, number: int, place: Workplace) -> EngineSpec:
    """Return the spec of each engine of a teacher."""
    teacher = prepared.teachers[number]
    if not place.teacher_models:
        raise SampleError("the teacher has no place: the workplace was opened without it")
    gpus = place.shares.teacher_gpus
    # At staleness 0 the learner waits while the teacher scores, and the samplers have hardly any work left.
    there = EnginePlace(model=place.teacher_models[number], num_threads=place.shares.sampler_threads, num_gpus=gpus)
    sampler = teacher.sampler(run, on_gpu=there.on_gpu)
    dtype = run.model.weights_dtype(on_gpu=there.on_gpu)
    return EngineSpec(
        sampler=sampler,
        base=teacher.base,
        dtype=dtype,
        serve=sampler.serving(read_config(teacher.model), dtype),
        max_lora_rank=max_rank(teacher.adapter) if teacher.adapter else None,
        max_context_tokens=scored_tokens(prepared.longest_prompt_tokens, run.sampler.max_completion_tokens),
        seed=run.seed,
        max_requests=run.loop.completions_per_prompt,
        place=there,
    )
