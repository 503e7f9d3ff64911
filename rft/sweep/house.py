"""Where trials live: one Ray for the whole sweep, and in it the samplers, graders and learner of each trial."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from rft import build
from rft.app import Parts, Say
from rft.cluster import num_gpus_here, ray_session, workplace
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
        self._address = ""

    def explain(self) -> list[str]:
        """What there is to say of who shares with whom, a sentence each."""
        return []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Ray, for as long as the block lasts."""
        largest = max(self._parallel * (run.sampler.num_actors + 1) for run in self._runs)
        async with ray_session(self._runs[0].cluster, num_processes=largest) as self._address:
            yield

    def parts(
        self, number: int, run: RunConfig, prepared: Prepared
    ) -> Callable[[Say], AbstractAsyncContextManager[Parts]]:
        """What starts and closes the parts of a trial."""
        return lambda say: self._separate(run, prepared, say)

    @asynccontextmanager
    async def _separate(self, run: RunConfig, prepared: Prepared, say: Say) -> AsyncIterator[Parts]:
        panel = build.panel(run, prepared)
        try:
            say("waiting for its place")
            async with workplace(
                run,
                model=prepared.model,
                fingerprint=prepared.base.fingerprint,
                address=self._address,
                parallel=self._parallel,
            ) as place:
                say(f"starting {run.sampler.num_actors} sampler(s) and the learner")
                fleet = build.fleet(
                    run, prepared, place, max_lora_rank=run.learner.lora.rank if run.learner.lora else None, warn=say
                )
                learner = await build.learner(run, prepared, place, None)
                try:
                    await asyncio.gather(fleet.start(), learner.start())
                    yield Parts(fleet, panel, learner)
                finally:
                    say("closing")
                    fleet.close()
                    await learner.close()
        finally:
            panel.close()


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
