"""Where trials live: one Ray for the whole sweep, and in it the samplers, graders and learner of each trial.

Trials whose engines would be the same share them: the base model is loaded once, each trial's adapters are a few more
in the same engine, and what they ask for is sampled together. Seeds, policies, proofs, graders, learner and folder stay
each trial's own. So are the graders' worker processes, which are forked from one that has loaded the graders for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from typing import Any

from rft.cluster import nodes_now, ray_session, starts_ray, this_machine, workplace
from rft.config import RunConfig
from rft.grading.processes.fork_server import ForkServers
from rft.learning.remote import RemoteLearner
from rft.run import build
from rft.run.inputs import Prepared
from rft.run.parts import Parts, Say
from rft.sweep.capacity import default_parallel, room_for
from rft.sweep.shared_fleets import SharedFleets, lora_rank_of, spec_of, whose_engine, why_alone
from rft.waiting import together


class House:
    """The Ray that the trials of a sweep share, and the samplers that some of them do.

    Args:
        inputs: What the trials are going to be, or what stands for them: configuration and inputs of each.
        parallel: How many trials are to run at the same time; None lets rft decide.
        at_most: How many trials there will be.
        share_fleet: Whether trials with the same base model and sampler settings share their samplers.
        are_all: Whether `inputs` are all trials, so that samplers end with the last trial that needs them.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[RunConfig, Prepared]],
        *,
        parallel: int | None,
        at_most: int,
        share_fleet: bool,
        are_all: bool = True,
    ) -> None:
        self._inputs = inputs
        self._wanted = parallel
        self._at_most = at_most
        self._share_fleet = share_fleet
        self._are_all = are_all
        self._address = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Ray, for as long as the block lasts. Yields how many trials run at the same time."""
        runs = [run for run, _ in self._inputs]
        cluster = runs[0].cluster
        starts_its_own = starts_ray(cluster)
        share = self._share_fleet and not any(why_alone(spec_of(*one)) for one in self._inputs)
        nodes = [this_machine(0)]
        wanted = self._wanted or default_parallel(runs, nodes, share_fleet=share)
        largest = min(wanted, self._at_most) * max(run.sampler.num_actors + run.learner.num_workers for run in runs)
        with closing(ForkServers()) as self._fork_servers:
            for _, prepared in self._inputs:
                self._fork_servers.of(prepared.graders).warm()  # while Ray starts
            async with ray_session(cluster, num_processes=largest) as self._address:
                if not starts_its_own:
                    nodes = await nodes_now()
                    wanted = self._wanted or default_parallel(runs, nodes, share_fleet=share)
                    wanted = min(wanted, room_for(runs, nodes, share_fleet=share))
                self._parallel = min(wanted, self._at_most)
                self._fleets = SharedFleets(self._inputs, parallel=self._parallel, are_all=self._are_all)
                async with self._fleets:
                    yield self._parallel

    def explain(self) -> list[str]:
        """What there is to say, while the house is open, of who runs with whom and who shares; a sentence each."""
        told = []
        if self._wanted is not None and self._parallel < min(self._wanted, self._at_most):
            told.append(f"the cluster has room for {self._parallel} trial(s) at a time, not for {self._wanted}")
        if not self._share_fleet:
            return [*told, "each trial has samplers of its own"]
        specs = [(run, spec_of(run, prepared)) for run, prepared in self._inputs]
        alone = Counter(reason for _, spec in specs if (reason := why_alone(spec)))
        if sets := {whose_engine(run, spec) for run, spec in specs if why_alone(spec) is None}:
            told.append(f"trials share their samplers; sets of them, one after the other: {len(sets)}")
        told += [f"{number} trial(s) have samplers of their own: {reason}" for reason, number in alone.items()]
        return told

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
        panel = build.panel(run, prepared, self._fork_servers)
        where = self._where(prepared)
        try:
            say("waiting for the samplers, and starting the learner")
            async with (
                self._fleets.lease(run, prepared, where) as shared,
                workplace(run, part="learner", **where) as place,
                _learning(await build.learner(run, prepared, place, None, shared.canaries)) as learner,
            ):
                await together(shared.is_up(), learner.start())
                fleet = shared.fleet.join(
                    render=prepared.renderer.render,
                    seed=run.seed,
                    max_completion_tokens=run.sampler.max_completion_tokens,
                    stop=build.stop_strings(run.sampler),
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
        panel = build.panel(run, prepared, self._fork_servers)
        try:
            say("waiting for its place")
            async with AsyncExitStack() as stack:
                place = await stack.enter_async_context(workplace(run, **self._where(prepared)))
                say(f"starting {run.sampler.num_actors} sampler(s) and the learner")
                fleet = build.fleet(run, prepared, place, max_lora_rank=lora_rank_of(run), warn=say)
                stack.callback(fleet.close)
                stack.push_async_callback(fleet.end_streams)
                learner = await build.learner(run, prepared, place, None)
                await stack.enter_async_context(_learning(learner))
                await together(fleet.start(), learner.start())
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
