"""The fleet: the samplers of one run, each with a proved policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import chain

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError

from rft.config.samplers.base import SamplerConfig
from rft.errors import LearnerLost, RftError, SampleError, SyncError
from rft.sampling.actor import GATHER_S, Confirmation
from rft.sampling.engine import Request, SamplingOptions, request_seed
from rft.sampling.engines import Engines, SamplerHandle
from rft.sampling.proof import TOLERANCES, Proof, gap, has_moved, measured_tolerance, prove
from rft.sampling.stream import GO_ON, Dispatch, RolloutStream, cause
from rft.types import Logprobs, Policy, Publication, StoredWeights, Sync, Task
from rft.waiting import wait_for

MESSAGES_PER_S = 600
"""Maximum messages per second from all samplers to the driver. Each message costs the driver 0.7 ms of CPU time,
regardless of its completions. With more samplers, completions are therefore collected for longer."""


class Fleet:
    """One run's use of engines: its policy, streams, proofs, and excluded samplers.

    A run starts with the base model. Several runs can share engines, each through its own fleet.

    Args:
        engines: The actors, which may still be starting.
        sampler: The run's settings of its samplers.
        render: Returns the token ids of a task's prompt.
        seed: Seed of the run, from which the seeds of completions derive.
        warn: Shows a warning for an excluded sampler.
    """

    def __init__(
        self,
        engines: Engines,
        sampler: SamplerConfig,
        *,
        render: Callable[[Task], tuple[int, ...]],
        seed: int,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        spec = engines.spec
        self._engines = engines
        self._settings = sampler
        self._render = render
        self._seed = seed
        self._tolerance = TOLERANCES[spec.dtype] if sampler.canary_tolerance is None else sampler.canary_tolerance
        self._warn = warn
        self._run = next(engines.run_numbers)
        self._policy = spec.base
        self._open: list[RolloutStream] = []
        self._loaded = asyncio.Event()
        self._loaded.set()
        self._known: list[tuple[str, Logprobs]] = []
        self._samplers = engines.samplers

    @property
    def policy(self) -> Policy:
        """The current policy of every actor."""
        return self._policy

    @property
    def tolerance(self) -> float:
        """Largest mean gap to the learner that a proof allows."""
        return self._tolerance

    @property
    def measures_tolerance(self) -> bool:
        """Whether the tolerance depends on the base models: in 16 bits, unless it is configured."""
        return self._engines.spec.dtype != "float32" and self._settings.canary_tolerance is None

    def hold(self, tolerance: float) -> None:
        """Use this tolerance in all further proofs."""
        self._tolerance = tolerance

    def measure_tolerance(self, base_canary_logprobs: Logprobs) -> None:
        """Derive the tolerance from the smallest gap between the base models of a sampler and the learner.

        A sampler with a larger gap than the tolerance fails the proof of its first load.

        Args:
            base_canary_logprobs: The learner's scores of the canaries under the base model.

        Raises:
            SyncError: Every base model differs by more than limited precision explains.
        """
        gaps = {one.name: gap(one.base.logprobs, base_canary_logprobs) for one in self._samplers}
        self.hold(measured_tolerance(gaps))

    async def leave(self) -> None:
        """End this run's use of the engines, which drop its policies and continue to serve other runs.

        Raises:
            SampleError: A sampler failed.
            WaitTimeout: The samplers did not reply in time.
        """
        await self.end_streams()
        try:
            await wait_for(
                asyncio.gather(*(sampler.actor.forget.remote(self._run) for sampler in self._engines.samplers)),
                what="the samplers to drop a run",
                deadline_s=self._settings.stall_timeout_s,
            )
        except RayError as error:
            raise SampleError(f"a sampler failed: {cause(error)}") from error

    async def sleep(self) -> None:
        """Free the memory of all samplers until the next load, which proves a policy anew.

        Raises:
            SampleError: A sampler failed, or cannot sleep.
            WaitTimeout: The samplers did not reply in time.
        """
        try:
            await wait_for(
                asyncio.gather(*(sampler.actor.sleep.remote() for sampler in self._samplers)),
                what=f"{len(self._samplers)} sampler(s) to free their memory",
                deadline_s=self._settings.stall_timeout_s,
            )
        except RayError as error:
            raise SampleError(f"a sampler could not sleep: {_story(error)}") from error

    async def load(self, publication: Publication) -> Sync:
        """Load a new policy into every actor, and prove each load.

        Running streams keep the policy that they requested.

        Raises:
            LearnerLost: The learner's process died, and the weights of the policy with it.
            SyncError: An actor failed, or did not pass the proof; the message lists likely causes.
            WaitTimeout: The actors did not reply in time.
        """
        self._loaded.clear()
        try:
            return await self._load(publication)
        finally:
            self._loaded.set()

    async def _load(self, publication: Publication) -> Sync:
        began = time.perf_counter()
        policy, weights = publication.policy, publication.weights
        answers = await self._send(publication)
        proofs: list[Proof] = []
        confirmations: list[Confirmation] = []
        failures: list[tuple[SamplerHandle, str]] = []
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
            "sync/quarantined": float(len(self._engines.samplers) - len(self._samplers)),
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
        is_proved = bool(publication.canary_logprobs)
        if any(one.loaded.is_remote for one in confirmations):
            # Where nothing is read back, agreement proves nothing before the policy differs from the base model.
            is_proved &= moved
            metrics["sync/cache_checked"] = float(all(one.scores.reused_tokens is not None for one in confirmations))
        return Sync(policy=policy, proved=is_proved, metrics=metrics)

    async def _send(self, publication: Publication) -> list[Confirmation | BaseException]:
        """Send the weights to every actor; return their confirmations or failures."""
        policy = publication.policy
        # Ray may reorder calls of an actor, so the requests under the previous policy must arrive first.
        await wait_for(
            asyncio.gather(*(stream.is_taken.wait() for stream in self._open if stream.is_on_its_way)),
            what=f"{len(self._samplers)} sampler(s) to receive their requests",
            deadline_s=self._settings.stall_timeout_s,
        )
        # One copy in Ray's object store serves all actors of a node.
        weights = publication.weights
        stored = weights.reference if isinstance(weights, StoredWeights) else ray.put(weights)
        answers = await wait_for(
            asyncio.gather(
                *(sampler.actor.load.remote(stored, self._run) for sampler in self._samplers), return_exceptions=True
            ),
            what=f"{len(self._samplers)} sampler(s) to load {policy.name}",
            deadline_s=self._settings.stall_timeout_s,
        )
        if isinstance(weights, StoredWeights) and (losses := [answer for answer in answers if _is_loss(answer)]):
            raise LearnerLost(
                f"the learner's process died before the samplers had loaded {policy.name}, and took its weights along: "
                f"{cause(losses[0])}; {GO_ON}"
            )
        return answers

    def _judge(self, policy: Policy, failures: list[tuple[SamplerHandle, str]]) -> None:
        """Stop, or continue with the sound actors, as configured.

        Raises:
            SyncError: Contains the failure of every actor.
        """
        if not failures:
            return
        messages = [
            f"{sampler.name} was given {policy.name} after {self._policy.name}: {why}" for sampler, why in failures
        ]
        if self._settings.on_failed_proof == "stop" or len(failures) == len(self._samplers):
            raise SyncError("\n".join(messages))
        failed = [sampler for sampler, _ in failures]
        self._samplers = tuple(sampler for sampler in self._samplers if sampler not in failed)
        # They finish running requests under older, proved policies.
        for message in messages:
            self._warn(f"{message}. It is excluded; {len(self._samplers)} sampler(s) continue")

    def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> RolloutStream:
        """Sample completions of tasks under the current policy; they arrive as they end, from any actor.

        The requests are sent at once. Several streams may run side by side, and a newer policy may be loaded meanwhile.

        Args:
            tasks: The tasks to sample.
            completions_per_task: Completions per task.
            temperature: Sampling temperature.
            purpose: "train", "validation", ...: part of the seeds, so that purposes do not share their randomness.
            step: Number of the step, also part of the seeds.
        """
        options = SamplingOptions(
            temperature=temperature,
            max_completion_tokens=self._settings.max_completion_tokens,
            stop=self._settings.stop_strings,
        )
        requests = [self._requests(task, completions_per_task, purpose, step) for task in tasks]
        # If a policy overwrites the previous one, the new policy samples requests that arrive during the load.
        after = self._loaded if self._engines.serve != "adapter" and not self._loaded.is_set() else None
        stream = RolloutStream(
            lambda: self._dispatch(requests, options),
            after=after,
            total=len(tasks) * completions_per_task,
            deadline_s=self._settings.stall_timeout_s,
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
        # One actor samples all completions of a task, so that it computes the prompt only once.
        number, policy = next(self._engines.stream_numbers), self._policy
        samplers = self._samplers
        gather_s = max(GATHER_S, len(samplers) / MESSAGES_PER_S)
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
            for sampler, _ in used if not self._engines.is_closed else ():
                sampler.actor.abort.remote(number)

        return Dispatch(policy, sources, give_up)

    async def end_streams(self) -> None:
        """Cancel all running streams. Call it before the end of the Ray session.

        Ray's `ObjectRefGenerator` calls the core worker when its actor dies. After a shutdown of the core worker, this
        call ends the process with exit code 1 and without a message.
        """
        for stream in self._open:
            await stream.aclose()


def _is_loss(answer: object) -> bool:
    """Whether a sampler could not fetch the weights because their owner is gone."""
    return isinstance(answer, ObjectLostError) or isinstance(getattr(answer, "cause", None), ObjectLostError)


def _story(error: BaseException) -> str:
    """Return the failure of an actor: rft's own message, or Ray's cause."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, RftError):
        return str(error.cause)
    return f"{cause(error)}; {GO_ON}" if isinstance(error, RayActorError) else cause(error)
