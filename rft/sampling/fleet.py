"""The fleet: the samplers of one run, each with a proved policy."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from math import ceil
from typing import Any

from rft.config.samplers.base import SamplerConfig
from rft.errors import RftError, SampleError, SamplersLost, SyncError
from rft.sampling.contact import Contact
from rft.sampling.engine import BatchShape, Request, SamplingOptions, TopRequest, Tops, request_seed
from rft.sampling.engines import Engines, SamplerHandle
from rft.sampling.failures import explain, is_loss, loss
from rft.sampling.loader import Loader
from rft.sampling.members import Proofs
from rft.sampling.roster import Roster
from rft.sampling.sampler_events import SamplerEvent
from rft.sampling.stream import RolloutStream
from rft.sampling.turns import TurnStream
from rft.types import Logprobs, Policy, Publication, Sync, Task
from rft.waiting import waiting

MAX_TURN_ROWS = 8
"""Turns in one batch of an engine whose batches have a fixed shape. Episodes soon diverge, and empty rows cost time."""
CALLS_PER_SAMPLER = 2
"""Calls of `Fleet.logprobs` that one sampler has at the same time: one that it computes, and the next."""


class Fleet:
    """One run's use of engines: its policy, streams, proofs, and excluded samplers.

    A run starts with the base model. Several runs can share engines, each through its own fleet. A sampler that is lost
    is replaced; other samplers repeat its unfinished requests.

    Args:
        engines: The actors, which may still be starting.
        sampler: The run's settings of its samplers.
        render: Returns the token ids of a task's prompt.
        seed: Seed of the run, from which the seeds of completions derive.
        warn: Shows a warning for an excluded sampler.
        tell: Receives lost and replaced samplers.
    """

    def __init__(
        self,
        engines: Engines,
        sampler: SamplerConfig,
        *,
        render: Callable[[Task], tuple[int, ...]],
        seed: int,
        warn: Callable[[str], None] = lambda text: None,
        tell: Callable[[SamplerEvent], None] = lambda event: None,
    ) -> None:
        self._engines = engines
        self._settings = sampler
        self._render = render
        self._seed = seed
        self._run = next(engines.run_numbers)
        self._loaded = asyncio.Event()
        self._loaded.set()
        self._scoring = asyncio.Semaphore(CALLS_PER_SAMPLER * len(engines.samplers))
        self._num_scoring: Counter[SamplerHandle] = Counter()
        self._proofs = Proofs(engines.spec, sampler.canary_tolerance)
        self._contact = Contact(engines, sampler.stall_timeout_s)
        loader = Loader(engines=engines, contact=self._contact, proofs=self._proofs, run=self._run)
        self._roster = Roster(engines, sampler, loader, tell=tell, warn=warn)

    @property
    def policy(self) -> Policy:
        """The current policy of every actor."""
        return self._roster.policy

    @property
    def target(self) -> Policy:
        """The policy of the last load, which may still be under way."""
        return self._roster.target

    @property
    def samplers(self) -> tuple[SamplerHandle, ...]:
        """The samplers that serve this run now."""
        return tuple(member.sampler for member in self._roster.members)

    @property
    def tolerance(self) -> float:
        """Largest mean gap to the learner that a proof allows."""
        return self._proofs.tolerance

    @property
    def measures_tolerance(self) -> bool:
        """Whether the tolerance depends on the base models: in 16 bits, unless it is configured."""
        return self._proofs.measures_tolerance

    def hold(self, tolerance: float) -> None:
        """Use this tolerance in all further proofs."""
        self._proofs.tolerance = tolerance

    def measure_tolerance(self, base_canary_logprobs: Logprobs) -> None:
        """Derive the tolerance from the smallest gap between the base models of a sampler and the learner.

        A sampler with a larger gap than the tolerance fails the proof of its first load.

        Args:
            base_canary_logprobs: The learner's scores of the canaries under the base model.

        Raises:
            SyncError: Every base model differs by more than limited precision explains.
        """
        self._proofs.measure_tolerance(self.samplers, base_canary_logprobs)

    def renew_with(self, renew: Callable[[Policy], Awaitable[Publication | None]]) -> None:
        """Set the function that publishes a policy again whose weights were lost with the learner's process.

        A replaced sampler may need the weights of a policy long after the sync of that policy. The function returns
        None if the learner no longer keeps the policy, because it has published a newer one.
        """
        self._roster.renew = renew

    def admit(self) -> None:
        """Let samplers that had no place at the start join as soon as they have one. Call it once all parts run."""
        self._roster.admit()

    async def leave(self) -> None:
        """End this run's use of the engines, which drop its policies and continue to serve other runs.

        Raises:
            SampleError: A sampler failed.
            WaitTimeout: Samplers that are alive did not reply in time.
        """
        await self.end_streams()
        await self._ask_all(self._engines.present, "forget", "to drop a run", self._run)

    @property
    def is_asleep(self) -> bool:
        """Whether the samplers sleep, or are about to."""
        return self._roster.is_asleep

    async def sleep(self) -> None:
        """Free the memory of all samplers until the next `load` or `wake`, which proves a policy anew.

        Requests under way finish first; others wait. A sampler that is lost meanwhile is replaced only after the sleep,
        because the learner uses the memory.

        Raises:
            SampleError: A sampler failed, or cannot sleep.
            WaitTimeout: Samplers that are alive did not reply in time.
        """
        await self._roster.pause()
        # Also those that have no policy yet, or are excluded.
        await self._ask_all(self._engines.present, "sleep", "to free their memory")

    async def wake(self, publication: Publication) -> None:
        """Wake all samplers under the target. Requests that waited continue.

        Args:
            publication: A publication of the target.

        Raises:
            LearnerLost: The learner's process died, and the weights of the policy with it.
            SyncError: An actor failed, or did not pass the proof.
            WaitTimeout: Actors that are alive did not reply in time.
        """
        await self._roster.wake(publication)

    def fail(self, error: RftError) -> None:
        """Let open streams, the next stream, and the next load raise an error: the run cannot continue."""
        self._roster.fail(error)

    async def _ask_all(self, samplers: Sequence[SamplerHandle], method: str, what: str, *arguments: object) -> None:
        """Call a method of all samplers; give up those that are lost."""
        calls = {sampler: getattr(sampler.actor, method).remote(*arguments) for sampler in samplers}
        for sampler, answer in (await self._contact.ask(calls, what)).items():
            if not isinstance(answer, BaseException):
                continue
            if not is_loss(answer):
                raise SampleError(f"{sampler.name} failed {what}: {explain(answer)}") from answer
            self._engines.lose(sampler, loss(sampler.name, answer))

    async def load(self, publication: Publication) -> Sync:
        """Load a new policy into every actor, and prove each load.

        Running streams keep the policy that they requested.

        Raises:
            LearnerLost: The learner's process died, and the weights of the policy with it.
            SyncError: An actor failed, or did not pass the proof, or too few remain; the message lists likely causes.
            WaitTimeout: Actors that are alive did not reply in time.
        """
        began_s = time.perf_counter()
        if self._holds_one:
            await self._until_turns_end()
        self._loaded.clear()
        try:
            await self._roster.load(publication)
        except SamplersLost as error:  # the learner is a step ahead, so the caller cannot save this step
            raise SyncError(str(error)) from error
        finally:
            self._loaded.set()
        num_samplers, total_s = self._engines.num_started, time.perf_counter() - began_s
        return self._proofs.sync(publication, self._roster.members, num_samplers=num_samplers, total_s=total_s)

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
        requests = [self._requests(task, completions_per_task, purpose, step) for task in tasks]
        options = SamplingOptions(
            temperature=temperature,
            max_completion_tokens=self._settings.max_completion_tokens,
            stop=self._settings.stop_strings,
            shape=BatchShape(
                num_completions=ceil(len(tasks) / self._settings.num_actors) * completions_per_task,
                num_prompt_tokens=max((len(group[0].prompt_ids) for group in requests), default=0),
            ),
        )
        stream = RolloutStream(
            self._roster,
            list(chain.from_iterable(requests)),
            options=options,
            ready=self._ready,
            deadline_s=self._settings.stall_timeout_s,
        )
        self._open(stream)
        return stream

    def turns(self, *, num_episodes: int, temperature: float) -> TurnStream:
        """Sample the turns of episodes, each when it is requested, all under the current policy.

        Engines keep the policy until the stream is closed; an engine that holds one policy loads the next one then.

        Args:
            num_episodes: Number of episodes.
            temperature: Sampling temperature.
        """
        rows = min(MAX_TURN_ROWS, ceil(num_episodes / self._settings.num_actors))
        stream = TurnStream(
            self._roster,
            options=SamplingOptions(
                temperature=temperature,
                max_completion_tokens=self._settings.max_completion_tokens,
                stop=self._settings.stop_strings,
                shape=BatchShape(num_completions=rows, num_prompt_tokens=None),
            ),
            ready=self._ready,
            deadline_s=self._settings.stall_timeout_s,
        )
        self._open(stream)
        return stream

    @property
    def _holds_one(self) -> bool:
        """Whether an engine drops the previous policy during a load, and samples later requests under the new one."""
        return self._engines.serve != "adapter" or not self._engines.spec.staleness

    @property
    def _ready(self) -> Callable[[], Awaitable[None]] | None:
        """What a new stream must wait for; None if its requests can be sent at once."""
        is_loading = self._holds_one and not self._loaded.is_set()
        must_wait = is_loading or self._roster.is_asleep or not self._roster.has_enough
        return self._until_ready if must_wait else None

    def _open(self, stream: RolloutStream) -> None:
        self._roster.streams = [one for one in self._roster.streams if not one.is_over] + [stream]

    async def _until_turns_end(self) -> None:
        """Wait for the episodes of the previous policy."""
        streams = [stream for stream in self._roster.streams if isinstance(stream, TurnStream)]
        with waiting(lambda: f"{sum(not stream.is_over for stream in streams)} batch(es) of episodes to end"):
            for stream in streams:
                await stream.closed.wait()

    async def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        """Let the sampler with the least to do score sequences under the current policy.

        If the sampler is lost, another one scores them. All sequences of a call are scored together, so the result does
        not depend on other calls.

        Returns:
            `[N][L - 1]` log-probabilities of N sequences of L token ids, at temperature 1, of all tokens but the first.

        Raises:
            SampleError: The engine raised an exception.
            SamplersLost: Too few samplers remain, and no replacement could be started.
            WaitTimeout: A sampler that is alive did not reply in time.
        """
        scores: Logprobs = await self._scored("logprobs", sequences)
        return scores

    async def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """Return the scores of `logprobs`, and the most probable tokens at each position.

        Args:
            sequences: N sequences of token ids.
            request: How many tokens, and from which positions on.

        Raises like `logprobs`.
        """
        tops: Tops = await self._scored("top_logprobs", sequences, request)
        return tops

    async def _scored(self, method: str, sequences: Sequence[Sequence[int]], *arguments: object) -> Any:
        """Return the answer of the sampler with the least to do, or of another one if it is lost."""
        async with self._scoring:
            while True:
                await self._until_ready()
                sampler = min(self.samplers, key=lambda one: self._num_scoring[one])
                self._num_scoring[sampler] += 1
                try:
                    call = {sampler: getattr(sampler.actor, method).remote(sequences, *arguments)}
                    answers = await self._contact.ask(call, f"to score {len(sequences)} completion(s)")
                finally:
                    self._num_scoring[sampler] -= 1
                answer = answers.get(sampler)
                if isinstance(answer, BaseException):
                    if not is_loss(answer):
                        raise SampleError(f"{sampler.name} failed to score: {explain(answer)}") from answer
                    self._engines.lose(sampler, loss(sampler.name, answer))
                elif answer is not None:
                    return answer

    async def _until_ready(self) -> None:
        """Wait for a load under way, for the end of a sleep, and for enough samplers."""
        await self._loaded.wait()
        await self._roster.until_awake()
        await self._roster.until_enough()

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

    async def end_streams(self) -> None:
        """Cancel all running streams and replacements. Call it before the end of the Ray session.

        Ray's `ObjectRefGenerator` calls the core worker when its actor dies. After a shutdown of the core worker, this
        call ends the process with exit code 1 and without a message.
        """
        await self._roster.end()
        if self._engines.spec.num_runs == 1:
            await self._engines.end_replacements()
