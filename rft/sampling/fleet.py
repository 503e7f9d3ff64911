"""The fleet: Ray actors with one engine each, sampling side by side under policies that each has proved to hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import chain, count
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from rft.errors import RftError, SampleError, SyncError
from rft.sampling.actor import GATHER_S, Confirmation, SamplerActor
from rft.sampling.engine import Request, SamplingOptions, Scores, request_seed
from rft.sampling.proof import TOLERANCES, Proof, has_moved, prove
from rft.sampling.spec import EngineSpec
from rft.sampling.stream import GO_ON, Dispatch, RolloutStream, cause
from rft.types import Logprobs, Policy, Publication, StoredWeights, Sync, Task
from rft.waiting import wait_for

JOURNEYS_PER_S = 600
"""Journeys of completions to the driver that all samplers together make at most: each costs it 0.7 ms of CPU time,
however many completions are in it. So the more samplers there are, the longer completions gather on each."""


class _Sampler:
    """One actor, and what messages call it."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self.actor = actor
        self.base: Scores


class Fleet:
    """One or more sampler actors behind one face.

    Args:
        spec: The engine that every actor builds.
        actor_options: Ray's options of each actor: what it sets aside, and where the actor goes.
        render: From a task to the token ids of its prompt.
        seed: Of the run; every completion's own seed is made from it.
        max_completion_tokens: A completion is cut here.
        stop: Strings that end a completion.
        start_timeout_s: Deadline for starting all engines, seconds.
        stall_timeout_s: Deadline for the next completion and for a sync, seconds.
        canary_tolerance: Largest mean gap between engine and learner; None takes that of the dtype.
        on_failed_proof: Whether a sampler whose proof fails ends the run, or is left out as long as others are sound.
        warn: Told in a sentence when a sampler is left out.
        nodes: What the nodes of the actors are called, for messages; none where all are on this machine.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        actor_options: Sequence[Mapping[str, Any]],
        render: Callable[[Task], tuple[int, ...]],
        seed: int,
        max_completion_tokens: int,
        stop: Sequence[str] = (),
        start_timeout_s: float,
        stall_timeout_s: float,
        canary_tolerance: float | None = None,
        on_failed_proof: Literal["stop", "quarantine"] = "stop",
        warn: Callable[[str], None] = lambda text: None,
        nodes: Sequence[str] = (),
    ) -> None:
        self._spec = spec
        self._actor_options = actor_options
        self._names = [f"sampler {number}" for number in range(len(actor_options))]
        if nodes:
            self._names = [f"{name} on node {node}" for name, node in zip(self._names, nodes, strict=True)]
        self._render = render
        self._seed = seed
        self._max_completion_tokens = max_completion_tokens
        self._stop = tuple(stop)
        self._start_timeout_s = start_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._tolerance = TOLERANCES[spec.dtype] if canary_tolerance is None else canary_tolerance
        self._on_failed_proof = on_failed_proof
        self._warn = warn
        self._base = self._policy = spec.base
        self._run = 0
        self._runs = count(1)
        self._streams = count()
        self._open: list[RolloutStream] = []
        self._loaded = asyncio.Event()
        self._loaded.set()
        self._known: list[tuple[str, Logprobs]] = []
        self._samplers = self._create()
        self._quarantined: list[_Sampler] = []

    def _create(self) -> list[_Sampler]:
        actor = ray.remote(SamplerActor)
        return [
            _Sampler(name, actor.options(**options).remote(self._spec))
            for name, options in zip(self._names, self._actor_options, strict=True)
        ]

    @property
    def policy(self) -> Policy:
        """The policy that every actor serves."""
        return self._policy

    @property
    def serve(self) -> Literal["adapter", "merged", "full"]:
        """How policies are served: as adapters beside the base model, merged into it, or as whole models."""
        if self._spec.max_lora_rank is None:
            return "full"
        return "merged" if self._spec.serve == "merged" else "adapter"

    async def start(self) -> None:
        """Wait until every engine is up.

        Raises:
            SampleError: An engine could not be started.
            WaitTimeout: They did not come up in time.
        """
        try:
            started = await wait_for(
                asyncio.gather(*(sampler.actor.start.remote() for sampler in self._samplers)),
                what=f"{len(self._samplers)} sampler(s) to start",
                deadline_s=self._start_timeout_s,
            )
        except RayError as error:
            raise SampleError(f"a sampler could not be started: {cause(error)}") from error
        for sampler, (_, base) in zip(self._samplers, started, strict=True):
            sampler.base = base

    def join(
        self,
        *,
        render: Callable[[Task], tuple[int, ...]],
        seed: int,
        max_completion_tokens: int,
        stop: Sequence[str] = (),
        warn: Callable[[str], None] = lambda text: None,
    ) -> Fleet:
        """The same samplers for one more run, which begins with the base model and has policies and faults of its own.

        To be called once they are up, for a fleet whose engines were built for several runs.

        Args:
            render: From a task to the token ids of its prompt.
            seed: Of the run.
            max_completion_tokens: A completion is cut here.
            stop: Strings that end a completion.
            warn: Told in a sentence when a sampler is left out.
        """
        one = copy(self)
        one._run = next(self._runs)
        one._render, one._seed, one._max_completion_tokens, one._warn = render, seed, max_completion_tokens, warn
        one._stop = tuple(stop)
        one._policy = self._base
        one._samplers, one._quarantined = list(self._samplers), []
        one._open, one._known = [], []
        one._loaded = asyncio.Event()
        one._loaded.set()
        return one

    async def leave(self) -> None:
        """End what `join` began: the samplers forget the run's policies, and go on for others."""
        await self.end_streams()
        gone = (sampler.actor.forget.remote(self._run) for sampler in [*self._samplers, *self._quarantined])
        try:
            await wait_for(asyncio.gather(*gone), what="the samplers to forget a run", deadline_s=self._stall_timeout_s)
        except RayError as error:
            raise SampleError(f"a sampler failed: {cause(error)}") from error

    async def load(self, publication: Publication) -> Sync:
        """Bring a new policy to every actor, and let each prove that it holds it.

        Streams that run meanwhile go on under the policy that they were asked for.

        Raises:
            SyncError: An actor failed or could not prove it; with what to check.
            WaitTimeout: They did not answer in time.
        """
        self._loaded.clear()
        try:
            return await self._load(publication)
        finally:
            self._loaded.set()

    async def _load(self, publication: Publication) -> Sync:
        began = time.perf_counter()
        policy = publication.policy
        # Ray may bring an actor a later call first: what was asked for under the policy before must be there.
        await wait_for(
            asyncio.gather(*(stream.is_taken.wait() for stream in self._open if stream.is_on_its_way)),
            what=f"{len(self._samplers)} sampler(s) to take in what they are asked for",
            deadline_s=self._stall_timeout_s,
        )
        # One copy in Ray's object store serves all the actors of a node.
        weights = publication.weights
        stored = weights.reference if isinstance(weights, StoredWeights) else ray.put(weights)
        answers = await wait_for(
            asyncio.gather(
                *(sampler.actor.load.remote(stored, self._run) for sampler in self._samplers), return_exceptions=True
            ),
            what=f"{len(self._samplers)} sampler(s) to load {policy.name}",
            deadline_s=self._stall_timeout_s,
        )
        proofs: list[Proof] = []
        confirmations: list[Confirmation] = []
        failures: list[tuple[_Sampler, str]] = []
        for sampler, answer in zip(self._samplers, answers, strict=True):
            if isinstance(answer, BaseException):
                failures.append((sampler, f"could not load it: {_story(answer)}"))
                continue
            proof = prove(publication, answer, sampler.base, tolerance=self._tolerance, known=self._known)
            if proof.problems:
                failures.append((sampler, "; ".join(proof.problems)))
            else:
                proofs.append(proof)
                confirmations.append(answer)
        self._judge(policy, failures)
        self._policy = policy
        self._known = [*self._known[-1:], (policy.name, publication.canary_logprobs)]
        moved = has_moved(publication, self._tolerance)
        metrics = {
            "sync/actors": float(len(self._samplers)),
            "sync/quarantined": float(len(self._quarantined)),
            "sync/modules_matched": float(min(one.loaded.modules_matched for one in confirmations)),
            "sync/bytes": float(weights.num_bytes),
            "sync/canaries_moved": float(moved),
            "sync/load_s": max(one.load_s for one in confirmations),
            "sync/proof_s": max(one.proof_s for one in confirmations),
            "sync/total_s": time.perf_counter() - began,
        }
        if publication.canary_logprobs:
            metrics |= {
                "sync/canary_gap_mean": max(proof.gap.mean for proof in proofs),
                "sync/canary_gap_max": max(proof.gap.largest for proof in proofs),
                "sync/base_gap_mean": min(proof.base_gap.mean for proof in proofs),
            }
        return Sync(policy=policy, proved=bool(publication.canary_logprobs), metrics=metrics)

    def _judge(self, policy: Policy, failures: list[tuple[_Sampler, str]]) -> None:
        """Stop, or go on with those that are sound, as configured.

        Raises:
            SyncError: With the story of every actor that failed.
        """
        if not failures:
            return
        told = [f"{sampler.name} was given {policy.name} after {self._policy.name}: {why}" for sampler, why in failures]
        if self._on_failed_proof == "stop" or len(failures) == len(self._samplers):
            raise SyncError("\n".join(told))
        failed = [sampler for sampler, _ in failures]
        self._samplers = [sampler for sampler in self._samplers if sampler not in failed]
        # They live on for what is in flight, which older policies sample that they have proved to hold.
        self._quarantined += failed
        for one in told:
            self._warn(f"{one}. It is left out; {len(self._samplers)} sampler(s) go on")

    def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> RolloutStream:
        """Sample completions of tasks under the policy that is served now; they come as they end, from any actor.

        The requests leave at once. Several streams may run side by side, and a newer policy may be loaded meanwhile.

        Args:
            tasks: What to sample.
            completions_per_task: How many of each.
            temperature: Of the softmax.
            purpose: "train", "validation", ...: part of the seeds, so that purposes do not share their randomness.
            step: Number of the step, part of the seeds likewise.
        """
        options = SamplingOptions(
            temperature=temperature, max_completion_tokens=self._max_completion_tokens, stop=self._stop
        )
        requests = [self._requests(task, completions_per_task, purpose, step) for task in tasks]
        # Where a policy overwrites the one before, what is asked for while that goes on is sampled by the new one.
        after = self._loaded if self.serve != "adapter" and not self._loaded.is_set() else None
        stream = RolloutStream(
            lambda: self._dispatch(requests, options),
            after=after,
            total=len(tasks) * completions_per_task,
            deadline_s=self._stall_timeout_s,
        )
        self._open = [one for one in self._open if not one.is_over] + [stream]
        return stream

    def _requests(self, task: Task, completions_per_task: int, purpose: str, step: int) -> list[Request]:
        prompt_ids = self._render(task)
        return [
            Request(
                task_id=task.id,
                index=index,
                prompt_ids=prompt_ids,
                seed=request_seed(self._seed, purpose, step, task.id, index),
            )
            for index in range(completions_per_task)
        ]

    def _dispatch(self, requests: Sequence[list[Request]], options: SamplingOptions) -> Dispatch:
        """Send requests to the actors, task by task in turn."""
        # The completions of a task stay on one actor, which computes their common prompt only once.
        number, policy = next(self._streams), self._policy
        samplers = self._samplers
        gather_s = max(GATHER_S, len(samplers) / JOURNEYS_PER_S)
        shares = [list(chain.from_iterable(requests[place :: len(samplers)])) for place in range(len(samplers))]
        used = [(sampler, share) for sampler, share in zip(samplers, shares, strict=True) if share]
        sources = [
            (
                sampler.name,
                sampler.actor.sample.options(num_returns="streaming").remote(
                    number, share, options, policy, self._run, gather_s
                ),
            )
            for sampler, share in used
        ]

        def give_up() -> None:
            for sampler, _ in used if self._samplers else ():  # unless the fleet was closed meanwhile
                sampler.actor.abort.remote(number)

        return Dispatch(policy, sources, give_up)

    async def end_streams(self) -> None:
        """Give up whatever is being sampled. To be called before Ray is left.

        Ray's `ObjectRefGenerator` asks the core worker for more when its actor dies, and where that has been shut down
        it ends this process: exit code 1 and not a word.
        """
        for stream in self._open:
            await stream.aclose()

    def close(self) -> None:
        """End every actor."""
        for sampler in [*self._samplers, *self._quarantined]:
            ray.kill(sampler.actor)
        self._samplers = []


def _story(error: BaseException) -> str:
    """Why an actor failed: what rft says on purpose, or the cause that Ray gives."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, RftError):
        return str(error.cause)
    return f"{cause(error)}; {GO_ON}" if isinstance(error, RayActorError) else cause(error)
