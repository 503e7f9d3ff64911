"""Builds and starts the engines of a run's teacher."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from rft.cluster import Workplace
from rft.config import EvaluateConfig, RunConfig
from rft.errors import SampleError
from rft.events import Emit, Warned
from rft.models.adapter_folder import max_rank
from rft.models.base_model import read_config
from rft.run.inputs import Prepared
from rft.run.teacher import Teacher, scored_tokens
from rft.run.teacher_panel import TeacherPanel
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
        teacher: The teacher.
        place: The places of the run's processes.
        emit: Receives lost and replaced processes, and warnings.
    """

    def __init__(self, run: RunConfig, prepared: Prepared, teacher: Teacher, place: Workplace, emit: Emit) -> None:
        self._teacher = teacher
        spec = _spec(run, prepared, teacher, place)
        self.engines = Engines(
            spec,
            actor_options=place.teacher_options,
            nodes=place.teacher_nodes,
            prepare=place.prepare_teacher,
            tell=emit,
            role="teacher",
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
        self.panel = TeacherPanel(
            self.fleet,
            max_fault_share=run.grading.max_fault_share,
            fault_window=run.grading.fault_window_completions,
        )
        """Scores the completions of training."""

    async def start(self) -> None:
        """Wait until all engines serve the teacher.

        Raises:
            SampleError: An engine could not be started.
            SyncError: An engine cannot serve the adapter.
            WaitTimeout: The engines did not start in time.
        """
        await self.engines.start()
        if self._teacher.adapter is not None:
            await self.fleet.load(Publication(weights=self._teacher.adapter))


@asynccontextmanager
async def opened_teacher(
    config: RunConfig | EvaluateConfig, prepared: Prepared, place: Workplace, emit: Emit
) -> AsyncIterator[TeacherEngines | None]:
    """Create the engines of a run's teacher, and end their replacements at the end of the block; None without one.

    Args:
        config: The configuration.
        prepared: Its inputs.
        place: The places of the run's processes.
        emit: Receives lost and replaced processes, and warnings.
    """
    if not isinstance(config, RunConfig) or prepared.teacher is None:
        yield None
        return
    teacher = TeacherEngines(config, prepared, prepared.teacher, place, emit)
    try:
        yield teacher
    finally:
        await teacher.fleet.end_streams()


def start_with(
    teacher: TeacherEngines | None, start_samplers: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return a function that starts the teacher and the samplers.

    They start in turn if the teacher shares its GPU: while it sizes its cache, vLLM takes all memory for its own.
    """
    if teacher is None:
        return start_samplers

    async def start() -> None:
        if teacher.engines.spec.place.shares_gpu:
            await teacher.start()
            await start_samplers()
        else:
            await together(teacher.start(), start_samplers())

    return start


def _spec(run: RunConfig, prepared: Prepared, teacher: Teacher, place: Workplace) -> EngineSpec:
    """Return the spec of each of the teacher's engines."""
    if place.teacher_model is None:
        raise SampleError("the teacher has no place: the workplace was opened without it")
    gpus = place.shares.teacher_gpus
    # At staleness 0 the learner waits while the teacher scores, and the samplers have hardly any work left.
    there = EnginePlace(model=place.teacher_model, num_threads=place.shares.sampler_threads, num_gpus=gpus)
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
