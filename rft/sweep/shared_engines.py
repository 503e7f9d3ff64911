"""Engines shared by trials: selects sharing trials, counts users, and ends unused engines."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType

from rft.cluster import workplace
from rft.config import RunConfig
from rft.config.environment import plays_episodes
from rft.config.samplers.base import OF_THE_RUN
from rft.errors import SampleError, SyncError
from rft.models.base_model import read_config
from rft.run import build
from rft.run.inputs.prepare import Prepared
from rft.run.parts import SharedRay
from rft.sampling.engines import Engines
from rft.waiting import waiting


def sharing_key(run: RunConfig, prepared: Prepared) -> str:
    """Return a key that is equal for trials that can use the same engines.

    These may differ: the seed, because each completion has its own; settings sent with each request; the adapter's rank
    and the staleness, because the largest values suit all; the canaries, which the first trial provides.
    """
    sampler = run.sampler.shared().model_dump(exclude=OF_THE_RUN)
    model = (prepared.model, prepared.base, run.model.dtype, prepared.context_tokens)
    return repr((sampler, model, run.cluster.model_dump()))


def why_alone(run: RunConfig, prepared: Prepared) -> str | None:
    """Return why a trial cannot share its engines, or None."""
    adapter = run.learner.adapter
    if adapter.publishes == "model":
        return f"learner.adapter={adapter.method} changes the base model itself"
    if adapter.needs_merge:
        return f"learner.adapter={adapter.method} is merged into the base model; learner.adapter=lora can share engines"
    if plays_episodes(run) and run.environment.placement == "samplers":
        return "environment.placement=samplers places environments beside the trial's own samplers"
    return run.sampler.why_alone(read_config(prepared.model))


@dataclass
class Shared:
    """Engines, and the number of trials that use them."""

    engines: Engines
    canaries: tuple[tuple[int, ...], ...]
    """The canaries, which the learner of every trial also scores."""
    starting: asyncio.Task[None]
    place: AsyncExitStack
    """Releases the engines' places in the cluster."""
    users: int = 0
    is_broken: bool = False
    """Whether a trial failed because of the engines, which then serve no new trial."""

    async def is_up(self) -> None:
        """Wait for the engines. A cancelled trial does not stop their start."""
        await asyncio.shield(self.starting)

    @property
    def has_failed(self) -> bool:
        """Whether the engines failed to start, or are broken."""
        return self.is_broken or (
            self.starting.done() and (self.starting.cancelled() or self.starting.exception() is not None)
        )

    async def close(self) -> None:
        """Stop the engines."""
        self.starting.cancel()
        await asyncio.wait([self.starting])
        await self.engines.end_replacements()
        self.engines.close()
        await self.place.aclose()


class SharedEngines:
    """The engines of a sweep, one set at a time. A context manager that stops all engines.

    Args:
        inputs: Configuration and inputs of the trials, or of examples of them.
        parallel: Number of parallel trials.
        are_all: Whether `inputs` contains all trials, so that engines end with the last trial that needs them.
    """

    def __init__(self, inputs: Sequence[tuple[RunConfig, Prepared]], *, parallel: int, are_all: bool) -> None:
        self._sharing: dict[str, list[tuple[RunConfig, Prepared]]] = {}
        """Sharing trials by key."""
        for run, prepared in inputs:
            if why_alone(run, prepared) is None:
                self._sharing.setdefault(sharing_key(run, prepared), []).append((run, prepared))
        self._parallel = parallel
        to_come = Counter({key: len(runs) for key, runs in self._sharing.items()})
        self._to_come = to_come if are_all else None
        self._started: dict[str, Shared] = {}
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> None:
        """Enter; engines start only when needed."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._started):
            await self._started.pop(key).close()

    @asynccontextmanager
    async def lease(self, run: RunConfig, prepared: Prepared, shared_ray: SharedRay) -> AsyncIterator[Shared]:
        """Return the engines for a trial, possibly still starting. Trials with other engines wait until these are free.

        Args:
            run: Configuration of the trial.
            prepared: Its inputs.
            shared_ray: The Ray of the sweep.
        """
        key = sharing_key(run, prepared)
        async with self._changed:
            with waiting("trials with other samplers to end"):
                await self._changed.wait_for(lambda: not any(shared.users for shared in self._unfit(key)))
            for other in [other for other, shared in self._started.items() if shared in self._unfit(key)]:
                await self._started.pop(other).close()
            if key not in self._started:
                self._started[key] = await self._start(run, prepared, key, shared_ray)
            shared = self._started[key]
            shared.users += 1
        try:
            yield shared
        except (SampleError, SyncError):
            shared.is_broken = True
            raise
        finally:
            async with self._changed:
                shared.users -= 1
                is_last = False
                if self._to_come is not None:
                    self._to_come[key] -= 1
                    is_last = not self._to_come[key]
                if not shared.users and (is_last or shared.has_failed):
                    await self._started.pop(key).close()
                self._changed.notify_all()

    def _unfit(self, key: str) -> list[Shared]:
        """Return the engines that a new trial cannot use: of another kind, or broken."""
        return [shared for other, shared in self._started.items() if other != key or shared.is_broken]

    async def _start(self, run: RunConfig, prepared: Prepared, key: str, shared_ray: SharedRay) -> Shared:
        run = run.model_copy(update={"sampler": run.sampler.shared()})
        sharing = [(run, prepared), *self._sharing.get(key, ())]
        stack = AsyncExitStack()
        try:
            place = await stack.enter_async_context(
                workplace(
                    run,
                    model=prepared.model,
                    fingerprint=prepared.base.fingerprint,
                    address=shared_ray.address,
                    parallel=shared_ray.parallel,
                    part="samplers",
                )
            )
            spec = build.engine_spec(run, prepared, place, max_lora_rank=self._max_rank(sharing))
            spec = replace(
                spec,
                staleness=max(one.loop.staleness for one, _ in sharing),
                # Consecutive trials still share: the base model stays loaded for the next one.
                num_runs=max(2, self._parallel),
                max_requests=spec.max_requests * self._parallel,
            )
            engines = build.engines(spec, place)
        except BaseException:
            await stack.aclose()
            raise
        starting = asyncio.create_task(engines.start(), name="start of the shared engines")
        return Shared(engines=engines, canaries=spec.canaries, starting=starting, place=stack)

    def _max_rank(self, trials: Sequence[tuple[RunConfig, Prepared]]) -> int:
        """Return the largest rank that trials publish.

        Without all trials of a search, this is a bound: a trial may combine the largest trained adapter of one example
        with the largest frozen one (`start_mode=stack`) of another.
        """
        ranks = [build.lora_rank(run, prepared) or 0 for run, prepared in trials]
        if self._to_come is not None:
            return max(ranks)
        below = [prepared.rank_below for _, prepared in trials]
        return max(rank - frozen for rank, frozen in zip(ranks, below, strict=True)) + max(below)
