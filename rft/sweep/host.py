"""One Ray for a whole sweep, with the samplers, graders and learner of each trial.

Trials with equal engines share them: the engine loads the base model once, holds the adapters of all trials, and
samples their requests together. Each trial has its own seeds, policies, proofs, graders, learner and folder.
Its worker processes for graders are forked from a process that has loaded the graders for all trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

from rft.cluster import nodes_now, ray_session, starts_ray, this_machine
from rft.config import RunConfig
from rft.events import Emit
from rft.grading.processes.fork_server import ForkServers
from rft.run.inputs.prepare import Prepared
from rft.run.parts import Parts, SharedRay, open_parts
from rft.run.recovery import RecoveringLearner
from rft.sweep.capacity import default_parallel, num_own_processes, room_for
from rft.sweep.shared_engines import SharedEngines, sharing_key, why_alone


class Host:
    """Holds the Ray that the trials of a sweep share, and the samplers that some of them share.

    Args:
        inputs: Configuration and inputs of each trial, or of examples of the trials.
        parallel: Number of trials at the same time; None lets rft decide.
        at_most: Number of trials of the sweep.
        are_all: Whether `inputs` holds every trial, so that samplers can end with the last trial that needs them.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[RunConfig, Prepared]],
        *,
        parallel: int | None,
        at_most: int,
        are_all: bool = True,
    ) -> None:
        self._inputs = inputs
        self._requested = parallel
        self._at_most = at_most
        self._are_all = are_all
        self._address = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Run Ray during the block. Yields the number of trials that run at the same time."""
        runs = [run for run, _ in self._inputs]
        cluster = runs[0].cluster
        starts_its_own = starts_ray(cluster)
        share = not any(why_alone(*one) for one in self._inputs)
        nodes = [this_machine(0)]
        parallel = self._requested or default_parallel(runs, nodes, share_fleet=share)
        largest = min(parallel, self._at_most) * max(run.sampler.num_actors + num_own_processes(run) for run in runs)
        with closing(ForkServers()) as self._fork_servers:
            for run, prepared in self._inputs:
                self._fork_servers.of(prepared.graders, run.grading.worker_memory_mb).warm()  # while Ray starts
            async with ray_session(cluster, num_processes=largest) as self._address:
                if not starts_its_own:
                    nodes = await nodes_now()
                    parallel = self._requested or default_parallel(runs, nodes, share_fleet=share)
                    parallel = min(parallel, room_for(runs, nodes, share_fleet=share))
                self._parallel = min(parallel, self._at_most)
                self._engines = SharedEngines(self._inputs, parallel=self._parallel, are_all=self._are_all)
                async with self._engines:
                    yield self._parallel

    def explain(self) -> list[str]:
        """Return sentences about parallel trials and shared samplers. The host must be open."""
        lines = []
        if self._requested is not None and self._parallel < min(self._requested, self._at_most):
            lines.append(f"the cluster has room for {self._parallel} trial(s) at a time, not for {self._requested}")
        alone = Counter(reason for trial in self._inputs if (reason := why_alone(*trial)))
        if sets := {sharing_key(*trial) for trial in self._inputs if why_alone(*trial) is None}:
            lines.append(f"trials share samplers; sets of samplers, used in turn: {len(sets)}")
        lines += [f"{number} trial(s) have their own samplers: {reason}" for reason, number in alone.items()]
        return lines

    def open_parts(
        self, run: RunConfig, prepared: Prepared, emit: Emit, *, checkpoint: Path | None = None
    ) -> AbstractAsyncContextManager[Parts[RecoveringLearner]]:
        """Open the parts of a trial. Shared samplers stay open when the block ends.

        Args:
            run: The configuration of the trial.
            prepared: Its inputs.
            emit: Receives the events of the trial.
            checkpoint: The checkpoint that a continued trial starts from.
        """
        shared_ray = SharedRay(address=self._address, parallel=self._parallel, fork_servers=self._fork_servers)
        samplers = None
        if why_alone(run, prepared) is None:
            samplers = self._engines.lease(run, prepared, shared_ray)
        return open_parts(run, prepared, emit, checkpoint=checkpoint, shared_ray=shared_ray, samplers=samplers)
