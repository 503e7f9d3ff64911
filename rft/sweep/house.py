"""Where trials live: one Ray for the whole sweep, and in it the samplers, graders and learner of each trial."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from rft import build
from rft.app import Parts, Say
from rft.cluster import Shares, local_ray, num_gpus_here, share_out
from rft.config import RunConfig
from rft.preparation import Prepared

MAX_PARALLEL_BY_DEFAULT = 4
"""Trials at a time on a machine without a GPU, where nothing else is said and there are as many cores."""


class House:
    """The Ray that the trials of a sweep share.

    Args:
        runs: What the trials are going to be, or what stands for them.
        parallel: How many trials run at the same time.
        share_fleet: Whether trials with the same base model and sampler settings share their samplers.
    """

    def __init__(self, runs: Sequence[RunConfig], *, parallel: int, share_fleet: bool) -> None:
        self._runs = runs
        self._parallel = parallel
        # One trial after the other takes its place, so that two half-placed ones never wait for each other.
        self._placing = asyncio.Lock()

    def explain(self) -> list[str]:
        """What there is to say of who shares with whom, a sentence each."""
        return []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Ray, for as long as the block lasts."""
        largest = max(self._parallel * (run.sampler.num_actors + 1) for run in self._runs)
        async with local_ray(
            num_processes=largest,
            num_gpus=num_gpus_here(),
            start_timeout_s=max(run.cluster.start_timeout_s for run in self._runs),
        ):
            yield

    def parts(
        self, number: int, run: RunConfig, prepared: Prepared
    ) -> Callable[[Say], AbstractAsyncContextManager[Parts]]:
        """What starts and closes the parts of a trial."""
        return lambda say: self._separate(run, prepared, say)

    @asynccontextmanager
    async def _separate(self, run: RunConfig, prepared: Prepared, say: Say) -> AsyncIterator[Parts]:
        shares = shares_of(run, parallel=self._parallel)
        panel = build.panel(run, prepared)
        try:
            say("waiting for its turn to be placed")
            async with self._placing:
                say(f"starting {run.sampler.num_actors} sampler(s) and the learner")
                fleet = build.fleet(run, prepared, shares, max_lora_rank=run.learner.lora.rank)
                try:
                    learner = build.learner(run, prepared, shares, None)
                    await asyncio.gather(fleet.start(), learner.start())
                except BaseException:
                    fleet.close()
                    raise
            try:
                yield Parts(fleet, panel, learner)
            finally:
                say("closing")
                fleet.close()
                await learner.close()
        finally:
            panel.close()


def shares_of(run: RunConfig, *, parallel: int) -> Shares:
    """What the processes of each trial get where so many run side by side, each with samplers of its own.

    Raises:
        ConfigError: More GPUs are asked for than there are.
    """
    return share_out(
        run.sampler,
        run.learner,
        num_cpus=max(1, (os.cpu_count() or 1) // parallel),
        num_gpus=num_gpus_here() // parallel,
    )


def default_parallel(runs: Sequence[RunConfig], *, share_fleet: bool) -> int:
    """How many trials run at the same time where nothing is said.

    With GPUs, as many as can have a learner, and samplers where they are not shared, with GPUs of their own; without,
    as many as there are cores, up to `MAX_PARALLEL_BY_DEFAULT`.
    """
    gpus, cores = num_gpus_here(), os.cpu_count() or 1
    if not gpus:
        return max(1, min(cores, MAX_PARALLEL_BY_DEFAULT))
    actors = max(run.sampler.num_actors for run in runs)
    return max(1, gpus - actors if share_fleet else gpus // (actors + 1))
