"""Where trials live: one Ray for the whole sweep, and in it the samplers, graders and learner of each trial.

Trials whose engines would be the same share them: the base model is loaded once, each trial's adapters are a few more
in the same engine, and what they ask for is sampled together. Seeds, policies, proofs, graders, learner and folder stay
each trial's own.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from rft import build
from rft.app import Parts, Say
from rft.cluster import num_gpus_here, ray_session, workplace
from rft.config import RunConfig
from rft.learning.remote import RemoteLearner
from rft.preparation import Prepared
from rft.sweep.sharing import SharedFleets, lora_rank_of, spec_of, whose_engine, why_alone

MAX_PARALLEL_BY_DEFAULT = 4
"""Trials at a time on a machine without a GPU, where nothing else is said and there are as many cores."""


class House:
    """The Ray that the trials of a sweep share, and the samplers that some of them do.

    Args:
        inputs: What the trials are going to be, or what stands for them: configuration and inputs of each.
        parallel: How many trials run at the same time.
        share_fleet: Whether trials with the same base model and sampler settings share their samplers.
        are_all: Whether `inputs` are all trials, so that samplers end with the last trial that needs them.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[RunConfig, Prepared]],
        *,
        parallel: int,
        share_fleet: bool,
        are_all: bool = True,
    ) -> None:
        self._inputs = inputs
        self._parallel = parallel
        self._share_fleet = share_fleet
        self._address = ""
        self._fleets = SharedFleets(inputs, parallel=parallel, are_all=are_all)

    def explain(self) -> list[str]:
        """What there is to say of who shares with whom, a sentence each."""
        if not self._share_fleet:
            return ["each trial has samplers of its own"]
        specs = [(run, spec_of(run, prepared)) for run, prepared in self._inputs]
        alone = Counter(reason for _, spec in specs if (reason := why_alone(spec)))
        sets = {whose_engine(run, spec) for run, spec in specs if why_alone(spec) is None}
        told = [f"{number} trial(s) have samplers of their own: {reason}" for reason, number in alone.items()]
        if sets:
            told.insert(0, f"trials share their samplers; sets of them, one after the other: {len(sets)}")
        return told

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Ray, for as long as the block lasts."""
        runs = [run for run, _ in self._inputs]
        largest = max(self._parallel * (run.sampler.num_actors + 1) for run in runs)
        async with ray_session(runs[0].cluster, num_processes=largest) as self._address, self._fleets:
            yield

    def parts(self, run: RunConfig, prepared: Prepared) -> Callable[[Say], AbstractAsyncContextManager[Parts]]:
        """What starts and closes the parts of a trial."""
        if self._share_fleet and why_alone(spec_of(run, prepared)) is None:
            return lambda say: self._sharing(run, prepared, say)
        return lambda say: self._alone(run, prepared, say)

    def _where(self, prepared: Prepared) -> dict[str, Any]:
        return {
            "model": prepared.model,
            "fingerprint": prepared.base.fingerprint,
            "address": self._address,
            "parallel": self._parallel,
        }

    @asynccontextmanager
    async def _sharing(self, run: RunConfig, prepared: Prepared, say: Say) -> AsyncIterator[Parts]:
        """Samplers that others use as well, graders and a learner of its own."""
        panel = build.panel(run, prepared)
        where = self._where(prepared)
        try:
            say("waiting for the samplers, and starting the learner")
            async with (
                self._fleets.lease(run, prepared, where) as shared,
                workplace(run, part="learner", **where) as place,
                _learning(await build.learner(run, prepared, place, None, shared.canaries)) as learner,
            ):
                await asyncio.gather(shared.is_up(), learner.start())
                fleet = shared.fleet.join(
                    render=prepared.renderer.render,
                    seed=run.seed,
                    max_completion_tokens=run.sampler.max_completion_tokens,
                    warn=say,
                )
                try:
                    yield Parts(fleet, panel, learner)
                finally:
                    say("closing")
                    await fleet.leave()
        finally:
            panel.close()

    @asynccontextmanager
    async def _alone(self, run: RunConfig, prepared: Prepared, say: Say) -> AsyncIterator[Parts]:
        """Samplers, graders and a learner of its own, all placed at once or not at all."""
        panel = build.panel(run, prepared)
        try:
            say("waiting for its place")
            async with AsyncExitStack() as stack:
                place = await stack.enter_async_context(workplace(run, **self._where(prepared)))
                say(f"starting {run.sampler.num_actors} sampler(s) and the learner")
                fleet = build.fleet(run, prepared, place, max_lora_rank=lora_rank_of(run), warn=say)
                stack.callback(fleet.close)
                learner = await build.learner(run, prepared, place, None)
                await stack.enter_async_context(_learning(learner))
                await asyncio.gather(fleet.start(), learner.start())
                yield Parts(fleet, panel, learner)
                say("closing")
        finally:
            panel.close()


@asynccontextmanager
async def _learning(learner: RemoteLearner) -> AsyncIterator[RemoteLearner]:
    """The learner, closed at the end; at once where the trial has failed, for it may be busy."""
    try:
        yield learner
    except BaseException:
        learner.kill()
        raise
    await learner.close()


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
