"""The samplers that trials have in common: which trials can, who is using them, and when they end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from types import TracebackType

from rft.cluster import Shares, Workplace, workplace
from rft.config import RunConfig
from rft.config.samplers import VllmSamplerConfig
from rft.errors import SampleError, SyncError
from rft.run import build
from rft.run.inputs import Prepared
from rft.run.parts import SharedRay
from rft.sampling.fleet import Fleet
from rft.sampling.spec import EngineSpec
from rft.waiting import waiting


def as_shared(run: RunConfig) -> RunConfig:
    """The configuration of a trial that shares: where nothing else is said, its adapter is served as an adapter.

    A run of its own would be served merged in float32, which is faster for one and impossible for several.
    """
    if isinstance(run.sampler, VllmSamplerConfig) and run.sampler.serve is None:
        return run.model_copy(update={"sampler": run.sampler.model_copy(update={"serve": "adapter"})})
    return run


def spec_of(run: RunConfig, prepared: Prepared) -> EngineSpec:
    """The engine of a trial, but for what depends on its place."""
    run = as_shared(run)
    nowhere = Shares(sampler_threads=1, learner_threads=1, sampler_gpus=0.0, learner_gpus=0.0)
    place = Workplace(shares=nowhere, model=prepared.model, sampler_options=(), learner_options=(), mirrors=())
    return build.engine_spec(run, prepared, place, max_lora_rank=build.lora_rank(run))


def why_alone(spec: EngineSpec) -> str | None:
    """Why a trial cannot share its samplers with others; None if it can."""
    if spec.max_lora_rank is None:
        return "full fine-tuning changes the base model itself"
    if spec.serve == "merged":
        return (
            "with sampler.serve=merged the adapter is written into the base model; sampler.serve=adapter can be shared"
        )
    return None


def whose_engine(run: RunConfig, spec: EngineSpec) -> str:
    """The same text for trials whose samplers can be the same.

    What may differ: the seed, for each completion has its own; the adapter's rank and the staleness, for the largest
    serves all; the canaries, which are those of the first.
    """
    alike = replace(spec, seed=0, max_lora_rank=None, staleness=0, canaries=(), num_runs=1)
    sampler = as_shared(run).sampler.model_dump(exclude={"temperature", "max_completion_tokens", "stop"})
    return repr((alike, sampler, run.cluster.model_dump()))


@dataclass
class SharedFleet:
    """Samplers, and how many trials use them."""

    fleet: Fleet
    canaries: tuple[tuple[int, ...], ...]
    """What they score to prove a sync; the learner of every trial scores the same."""
    starting: asyncio.Task[None]
    place: AsyncExitStack
    """Gives the place back that they have in the cluster."""
    users: int = 0
    is_broken: bool = False
    """Whether a trial failed by them, so that they serve those who are there, and nobody new."""

    async def is_up(self) -> None:
        """Wait until they are up. A trial that is cancelled meanwhile leaves them starting."""
        await asyncio.shield(self.starting)

    @property
    def has_failed(self) -> bool:
        """Whether they did not come up, or are broken."""
        return self.is_broken or (
            self.starting.done() and (self.starting.cancelled() or self.starting.exception() is not None)
        )

    async def close(self) -> None:
        """End them."""
        self.starting.cancel()
        await asyncio.wait([self.starting])
        self.fleet.close()
        await self.place.aclose()


class SharedFleets:
    """The samplers of a sweep, one set of them at a time. A context that ends them all.

    Args:
        inputs: Configuration and inputs of the trials, or of what stands for them.
        parallel: How many trials run at the same time.
        are_all: Whether `inputs` are all trials, so that samplers end with the last trial that needs them.
    """

    def __init__(self, inputs: Sequence[tuple[RunConfig, Prepared]], *, parallel: int, are_all: bool) -> None:
        specs = [(run, spec_of(run, prepared)) for run, prepared in inputs]
        self._specs = [(run, spec) for run, spec in specs if why_alone(spec) is None]
        self._parallel = parallel
        self._to_come = Counter(whose_engine(run, spec) for run, spec in self._specs) if are_all else None
        self._fleets: dict[str, SharedFleet] = {}
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> None:
        """Nothing is started before it is needed."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._fleets):
            await self._fleets.pop(key).close()

    @asynccontextmanager
    async def lease(self, run: RunConfig, prepared: Prepared, shared_ray: SharedRay) -> AsyncIterator[SharedFleet]:
        """The samplers for a trial, perhaps still starting. Trials that need others come when these are free.

        Args:
            run: Configuration of the trial.
            prepared: Its inputs.
            shared_ray: The Ray of the sweep.
        """
        spec = spec_of(run, prepared)
        key = whose_engine(run, spec)
        async with self._changed:
            with waiting("trials with other samplers to end"):
                await self._changed.wait_for(lambda: not any(shared.users for shared in self._unfit(key)))
            for other in [other for other, shared in self._fleets.items() if shared in self._unfit(key)]:
                await self._fleets.pop(other).close()
            if key not in self._fleets:
                self._fleets[key] = await self._start(run, prepared, spec, key, shared_ray)
            shared = self._fleets[key]
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
                    await self._fleets.pop(key).close()
                self._changed.notify_all()

    def _unfit(self, key: str) -> list[SharedFleet]:
        """The samplers that are not for a trial which comes now: of another kind, or broken."""
        return [shared for other, shared in self._fleets.items() if other != key or shared.is_broken]

    async def _start(
        self, run: RunConfig, prepared: Prepared, spec: EngineSpec, key: str, shared_ray: SharedRay
    ) -> SharedFleet:
        run = as_shared(run)
        alike = [spec, *(other for run, other in self._specs if whose_engine(run, other) == key)]
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
            rank = max(one.max_lora_rank or 0 for one in alike)
            for_all = replace(
                build.engine_spec(run, prepared, place, max_lora_rank=rank),
                staleness=max(one.staleness for one in alike),
                # One after the other, they still share: the base model stays for the next.
                num_runs=max(2, self._parallel),
            )
            fleet = build.fleet(run, prepared, place, max_lora_rank=rank, spec=for_all, warn=lambda text: None)
        except BaseException:
            await stack.aclose()
            raise
        starting = asyncio.create_task(fleet.start(), name="start of the shared samplers")
        return SharedFleet(fleet=fleet, canaries=for_all.canaries, starting=starting, place=stack)
