"""Opens and closes the parts of a run: samplers, panel and learner.

The parts close in this order: the learner ends its trainer (unless the run failed, because the learner may be busy),
streams of completions end, leaving the workplace ends all processes of the run, and the graders' worker processes end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, overload

from rft.cluster import Workplace, workplace
from rft.cluster.model_source import ModelSource
from rft.config import EvaluateConfig, RunConfig
from rft.episodes.sampler import EpisodeSampler
from rft.events import Emit, Notice, PartsStarted, PhaseStarted, Warned
from rft.grading.panel import Panel
from rft.grading.processes.fork_server import ForkServers
from rft.learning.remote import RemoteLearner
from rft.memory import Forecast, RunForecast
from rft.run import build
from rft.run.demonstration_loop import ComputedBatches, demonstrations_of
from rft.run.forecast.memory import forecast_of_evaluation, forecast_with_sleep, refuse_memory
from rft.run.grader_models import grader_models
from rft.run.inputs.prepare import Prepared
from rft.run.playing.episodes import opened_episodes
from rft.run.recovery import RecoveringLearner, RenewingSampler
from rft.run.start_facts import cache_events, hold_tolerance
from rft.run.teachers.engines import opened_teachers, start_with
from rft.run.teachers.teacher_scores import TeacherPanel
from rft.sampling.engines import Engines
from rft.sampling.fleet import Fleet
from rft.types import Adapter, Publication
from rft.waiting import together
from rft.wording import plural

L = TypeVar("L", RecoveringLearner, None)


class Parts(NamedTuple, Generic[L]):
    """The parts of a run; an evaluation has no learner."""

    fleet: Fleet
    panel: Panel
    learner: L
    samplers_sleep: bool = False
    """Whether the samplers sleep while the learner works."""
    training_panel: TeacherPanel | None = None
    """Scores the training completions in place of the graders; None without a teacher."""
    episodes: EpisodeSampler | None = None
    """Plays episodes on the fleet; None without an environment."""

    @property
    def sampler(self) -> Fleet | EpisodeSampler:
        """Samples completions, or plays episodes."""
        return self.episodes or self.fleet


class SharedSamplers(Protocol):
    """Samplers that several runs use."""

    @property
    def engines(self) -> Engines:
        """The engines, which each run uses through its own fleet."""

    @property
    def canaries(self) -> tuple[tuple[int, ...], ...]:
        """Token sequences that the samplers, and the learner of each run, score to prove a sync."""

    async def is_up(self) -> None:
        """Wait until the samplers have started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRay:
    """A Ray session for several parallel runs."""

    address: str
    """Address from `ray_session`."""
    parallel: int
    """Number of parallel runs."""
    fork_servers: ForkServers
    """Processes that have loaded the graders; the workers of each run are forked from them."""


@overload
def open_parts(
    config: RunConfig,
    prepared: Prepared,
    emit: Emit,
    *,
    checkpoint: Path | None = None,
    shared_ray: SharedRay | None = None,
    samplers: AbstractAsyncContextManager[SharedSamplers] | None = None,
) -> AbstractAsyncContextManager[Parts[RecoveringLearner]]: ...


@overload
def open_parts(
    config: EvaluateConfig, prepared: Prepared, emit: Emit, *, adapter: Adapter | None = None
) -> AbstractAsyncContextManager[Parts[None]]: ...


def open_parts(
    config: RunConfig | EvaluateConfig, prepared: Prepared, emit: Emit, **options: Any
) -> AbstractAsyncContextManager[Parts[Any]]:
    """Start Ray, samplers, panel and learner; close them at the end of the block.

    Args:
        config: A checked configuration.
        prepared: Its inputs.
        emit: Receives phases, notices and warnings.
        **options: `checkpoint`: the checkpoint folder that the learner continues from. `adapter`: the adapter that a
            measurement measures; without it, the base model. `shared_ray` and `samplers`: a Ray, and a lease of
            samplers, that several runs use; without them, the run has its own.

    Raises:
        ClusterError: Ray or a node cannot be reached, or failed.
        ConfigError: The cluster has no room for the processes.
        GradeError: The model of a grader could not be loaded.
        LearnError: The learner did not start.
        SampleError: A sampler did not start.
        SyncError: A sampler cannot serve the adapter.
        WaitTimeout: A wait exceeded its deadline.
    """
    return _open(config, prepared, emit, **options)


@asynccontextmanager
async def _open(
    config: RunConfig | EvaluateConfig,
    prepared: Prepared,
    emit: Emit,
    *,
    checkpoint: Path | None = None,
    adapter: Adapter | None = None,
    shared_ray: SharedRay | None = None,
    samplers: AbstractAsyncContextManager[SharedSamplers] | None = None,
) -> AsyncIterator[Parts[Any]]:
    async with AsyncExitStack() as stack:
        panel = build.panel(config, prepared, emit, shared_ray.fork_servers if shared_ray else None)
        stack.callback(panel.close)
        shared = None
        if samplers is not None:
            emit(PhaseStarted(text="waiting for the samplers, and starting the learner"))
            shared = await stack.enter_async_context(samplers)
        place = await stack.enter_async_context(_workplace(config, prepared, emit, shared_ray, bool(shared)))
        forecast = _forecast(config, prepared, place, adapter, emit, has_own_samplers=shared is None)
        # Before the engines, or after shared ones: vLLM would take the memory of a model that is still loading.
        if shared and place.grader_options:
            await shared.is_up()
        await stack.enter_async_context(grader_models(prepared.graders, place.grader_options))
        sleeps = forecast is not None and forecast.sizes.samplers_sleep
        engines = shared.engines if shared else _own_engines(config, prepared, place, adapter, emit, sleeps=sleeps)
        fleet = build.fleet(engines, config, prepared, emit)
        episodes = await stack.enter_async_context(opened_episodes(config, prepared, fleet, place, emit))
        if shared is None:
            stack.push_async_callback(fleet.end_streams)
        teachers = await stack.enter_async_context(opened_teachers(config, prepared, place, emit))
        start_samplers = start_with(teachers, shared.is_up if shared else engines.start)
        learner = None
        if isinstance(config, RunConfig) and forecast is not None:
            # On a GPU of both, vLLM would take the learner's memory for its own while it sizes its cache.
            if in_turn := place.shares.share_gpus:
                await start_samplers()
                emit(PhaseStarted(text="starting the learner"))
            canaries = shared.canaries if shared else None
            build_from = partial(build.learner, config, prepared, place, sizes=forecast.sizes, score=canaries)
            opening = _learner(config, prepared, build_from, checkpoint, fleet, emit, samplers_sleep=sleeps)
            learner = await stack.enter_async_context(opening)
            await together(*([] if in_turn else [start_samplers()]), learner.start())
        else:
            await start_samplers()
        facts = {"samplers": engines.facts, **(forecast.facts() if forecast else {})}
        facts |= {"teacher_engines": teachers.facts} if teachers else {}
        if learner is not None:
            facts |= await hold_tolerance(fleet, learner, Path(config.output_dir) if checkpoint else None)
        for event in (PartsStarted(facts=facts), *cache_events(engines)):
            emit(event)
        fleet.admit()
        if shared is not None:
            stack.push_async_callback(fleet.leave)
        await _load_adapter(fleet, learner, adapter)
        yield Parts(fleet, panel, learner, sleeps, teachers.panel if teachers else None, episodes)
        if shared is None and config.sampler.is_remote:
            await fleet.leave()  # what this run loaded would stay in a program that outlives it
        if learner is not None:
            emit(PhaseStarted(text="closing"))


def _forecast(
    config: RunConfig | EvaluateConfig,
    prepared: Prepared,
    place: Workplace,
    adapter: Adapter | None,
    emit: Emit,
    *,
    has_own_samplers: bool,
) -> RunForecast | None:
    """Forecast the memory and tell it. Return the forecast of a run, which has the sizes; None for a measurement.

    Raises:
        UsageError: Not enough memory to train all weights.
    """
    if isinstance(config, EvaluateConfig):
        _tell(forecast_of_evaluation(config, prepared, adapter, place.device, place.shares), emit)
        return None
    forecast = forecast_with_sleep(config, prepared, place.device, place.shares, has_own_samplers=has_own_samplers)
    refuse_memory(config, forecast)
    _tell(forecast, emit)
    return forecast


def _tell(forecast: Forecast, emit: Emit) -> None:
    for name, row in forecast.rows().items():
        emit(Notice(text=f"{name}: {row}"))
    if warning := forecast.warning():
        emit(Warned(text=warning))


def _own_engines(
    config: RunConfig | EvaluateConfig,
    prepared: Prepared,
    place: Workplace,
    adapter: Adapter | None,
    emit: Emit,
    *,
    sleeps: bool,
) -> Engines:
    what = ""
    if isinstance(config, RunConfig):
        teachers = plural(len(prepared.teachers), "teacher") if prepared.teachers[1:] else "the teacher"
        what = f", {teachers} and the learner" if prepared.teachers else " and the learner"
    number = config.sampler.num_actors - place.num_late_samplers
    emit(PhaseStarted(text=f"starting {number} sampler(s){what}"))
    rank = build.lora_rank(config, prepared, adapter)
    return build.engines(build.engine_spec(config, prepared, place, max_lora_rank=rank, sleeps=sleeps), place, emit)


def _workplace(
    config: RunConfig | EvaluateConfig, prepared: Prepared, emit: Emit, shared_ray: SharedRay | None, only_learner: bool
) -> AbstractAsyncContextManager[Workplace]:
    if not only_learner:
        emit(PhaseStarted(text="waiting for its place" if shared_ray else "starting Ray"))
    return workplace(
        config,
        model=prepared.model,
        fingerprint=prepared.base.fingerprint,
        teachers=[
            ModelSource(path=teacher.name, folder=teacher.model, fingerprint=teacher.base.fingerprint)
            for teacher in prepared.teachers
        ],
        tell=lambda text: emit(Notice(text=text)),
        warn=lambda text: emit(Warned(text=text)),
        address=shared_ray.address if shared_ray else None,
        parallel=shared_ray.parallel if shared_ray else 1,
        part="learner" if only_learner else "all",
    )


async def _load_adapter(fleet: Fleet, learner: RecoveringLearner | None, adapter: Adapter | None) -> None:
    """Load the adapter that a measurement measures, or the one that a run starts from, and prove that one."""
    if adapter is not None:
        await fleet.load(Publication(weights=adapter))
    elif learner is not None and (start := await learner.start_publication()) is not None:
        await RenewingSampler(sampler=fleet, learner=learner).load(start)


@asynccontextmanager
async def _learner(
    run: RunConfig,
    prepared: Prepared,
    build_from: Callable[[Path | None], Awaitable[RemoteLearner]],
    checkpoint: Path | None,
    fleet: Fleet,
    emit: Emit,
    *,
    samplers_sleep: bool,
) -> AsyncIterator[RecoveringLearner]:
    """Build the learner; end its trainer in order, unless the block raises: a busy learner would not answer."""
    rows = prepared.rows
    learner = RecoveringLearner(
        await build_from(checkpoint),
        build=build_from,
        folder=Path(run.output_dir),
        max_restarts=run.learner.max_restarts,
        emit=emit,
        batches=ComputedBatches(demonstrations_of(run, prepared.tasks.train, rows)) if rows is not None else None,
        resting=fleet if samplers_sleep else None,
    )
    fleet.renew_with(learner.renewed)
    yield learner
    await learner.close()
