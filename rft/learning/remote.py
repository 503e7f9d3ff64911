"""The learner in Ray actors, one for each of its ranks: the loop awaits it, every wait under a name and a deadline."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from rft.errors import LearnError, RankLost, RftError, UsageError
from rft.learning.build import build_learner
from rft.learning.spec import Backend, LearnerSpec, RankPlace
from rft.types import Adapter, FullWeights, GradedGroup, Publication, StoredWeights
from rft.waiting import wait_for

T = TypeVar("T")

OWN_WORD_S = 10.0
"""How long a rank's own failure is waited for after another one has lost it."""


class LearnerActor:
    """A learner in a process of its own.

    Args:
        spec: The learner to build.
    """

    _newest: Publication | None = None
    """The last publication, by reference: the object store keeps its weights until the next one."""

    def __init__(self, spec: LearnerSpec) -> None:
        self._learner = build_learner(spec)

    def steps_done(self) -> int:
        """Optimizer steps taken so far."""
        return self._learner.steps_done

    def call(self, name: str, *arguments: Any) -> Any:
        """Call the learner's method of this name."""
        return getattr(self._learner, name)(*arguments)

    def publish(self) -> Publication:
        """The policy as it stands; its weights stay in the object store of this node."""
        return self._by_reference(self._learner.publish())

    def history(self) -> list[Publication]:
        """The last publications, oldest first, likewise."""
        return [self._by_reference(publication) for publication in self._learner.history()]

    def _by_reference(self, publication: Publication) -> Publication:
        if self._newest is None or self._newest.policy != publication.policy:
            weights = publication.weights
            stored = StoredWeights(policy=weights.policy, num_bytes=weights.num_bytes, reference=ray.put(weights))
            self._newest = replace(publication, weights=stored)
        return self._newest


class RankActor(LearnerActor):
    """One of the ranks of a learner, in a process of its own.

    Args:
        spec: The learner to build a rank of.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._store: Any = None

    def open_store(self) -> str:
        """Open the store where the ranks meet, and return its `host:port`."""
        from rft.learning.ranks import open_store

        host = ray.util.get_node_ip_address()
        self._store = open_store(host)
        return f"{host}:{self._store.port}"

    def join(self, number: int, of: int, address: str, backend: Backend) -> int:
        """Meet the other ranks and build this one; return the steps that it has done already.

        Args:
            number: Which rank it is.
            of: How many there are.
            address: Of the store.
            backend: What adds up the gradients.
        """
        host = ray.util.get_node_ip_address()
        place = RankPlace(number=number, of=of, address=address, host=host, backend=backend)
        if number == 0:
            self._learner = build_learner(self._spec, place)
        else:
            with tempfile.TemporaryDirectory(prefix="rft-rank-") as folder:  # which TRL makes, and nobody fills
                quiet = replace(self._spec, run_folder=Path(folder), canaries=())
                self._learner = build_learner(quiet, place)
        return self._learner.steps_done


class RemoteLearner:
    """What the loop sees of the learner, be it one process or several ranks.

    Args:
        specs: The learner to build, as each rank is to see it.
        actor_options: Ray's options of the actor of each rank: what it sets aside, and where the actor goes.
        start_timeout_s: Deadline for loading the model, seconds.
        backend: What adds up the gradients, where there are several ranks.
    """

    def __init__(
        self,
        specs: Sequence[LearnerSpec],
        *,
        actor_options: Sequence[Mapping[str, Any]],
        start_timeout_s: float,
        backend: Backend = "gloo",
    ) -> None:
        self._step_timeout_s = specs[0].run.learner.step_timeout_s
        self._start_timeout_s = start_timeout_s
        of = len(specs)
        kind = LearnerActor if of == 1 else RankActor
        self._actors: list[Any] = [
            ray.remote(kind).options(**options).remote(spec) for spec, options in zip(specs, actor_options, strict=True)
        ]
        self._first = self._actors[0]
        if of == 1:
            self._up = [self._first.steps_done.remote()]
        else:
            address = self._first.open_store.remote()
            self._up = [actor.join.remote(number, of, address, backend) for number, actor in enumerate(self._actors)]

    async def start(self) -> int:
        """Wait until all ranks are up; return the steps they have done already.

        Raises:
            LearnError: A rank failed, or they do not start from the same weights.
        """
        steps: list[int] = await ask_ranks(self._up, "the learner to start", self._start_timeout_s)
        await self._compare("at the start")
        return steps[0]

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step on these groups; return the learner's metrics."""
        sent = ray.put(list(groups))
        metrics: list[dict[str, float]] = await self._ask_all("learn", "the learner's step", sent)
        return metrics[0]

    async def publish(self) -> Publication:
        """The policy as it stands, as the next version. Its weights are a reference that holds while the learner lives.

        Raises:
            LearnError: The ranks do not hold the same weights.
        """
        publication: Publication = await self._ask_first("publish", "the learner to publish")
        await self._compare(f"after step {publication.policy.version}")
        return publication

    async def weights(self) -> Adapter | FullWeights:
        """The weights of the policy as it stands, brought to this process."""
        stored = (await self.publish()).weights
        assert isinstance(stored, StoredWeights)  # by `LearnerActor.publish`
        what, deadline_s = "the trained weights", self._step_timeout_s
        weights: list[Adapter | FullWeights]
        weights = await ask_ranks([stored.reference], what, deadline_s, of=len(self._actors))
        return weights[0]

    async def history(self) -> list[Publication]:
        """What was published last, oldest first and ending with the newest; references as from `publish`."""
        published: list[Publication] = await self._ask_first("history", "the learner's history")
        return published

    async def save(self) -> None:
        """Write a checkpoint."""
        await self._ask_first("call", "the learner's checkpoint", "save")

    def kill(self) -> None:
        """End its processes at once, whatever they are doing."""
        for actor in self._actors:
            ray.kill(actor)

    async def close(self) -> None:
        """End the trainer and its processes."""
        try:
            await self._ask_all("close", "the learner to close")
        finally:
            self.kill()

    async def _compare(self, when: str) -> None:
        """Make sure that all ranks hold the same weights: whatever made them differ would go on to be learned from."""
        if len(self._actors) == 1:
            return
        first, *others = await self._ask_all("checksum", "the ranks to compare their weights")
        if wrong := [number for number, found in enumerate(others, start=1) if found != first]:
            raise LearnError(
                f"{when} rank {wrong[0]} of {len(self._actors)} of the learner holds other weights than rank 0; the "
                "ranks must compute alike: the same libraries and the same kind of processor or GPU on each node"
            )

    async def _ask_first(self, method: str, what: str, *arguments: Any) -> Any:
        reference = getattr(self._first, method).remote(*arguments)
        [answer] = await ask_ranks([reference], what, self._step_timeout_s, of=len(self._actors))
        return answer

    async def _ask_all(self, method: str, what: str, *arguments: Any) -> list[Any]:
        references = [actor.call.remote(method, *arguments) for actor in self._actors]
        try:
            return await ask_ranks(references, what, self._step_timeout_s)
        except RftError:
            if len(self._actors) > 1:
                self.kill()  # some may wait for the one that failed, and would for long
            raise


async def ask_ranks(
    references: Sequence[Awaitable[T]], what: str, deadline_s: float, *, of: int | None = None
) -> list[T]:
    """Await an answer of each rank, or the first failure: the others may wait for the rank that failed.

    A rank that lost another one says so before the other's own failure is known; so that one is waited for a little.

    Args:
        references: The answers, of rank 0 and those that follow it.
        what: What is waited for, in words.
        deadline_s: Seconds.
        of: How many ranks there are; None for as many as there are references.

    Raises:
        LearnError: The learner failed, or its process is gone; of several ranks it says which.
        WaitTimeout: An answer did not come in time.
    """
    of = of or len(references)
    tasks = [asyncio.create_task(_answer(each, number, of)) for number, each in enumerate(references)]
    try:
        await wait_for(_all_or_a_failure(tasks), what=what, deadline_s=deadline_s)
        failures = [error for task in tasks if task.done() and (error := task.exception())]
        silent = [str(number) for number, task in enumerate(tasks) if not task.done()]
        if failures:
            error = min(failures, key=lambda error: isinstance(error, RankLost))
            if isinstance(error, RankLost) and silent:
                raise LearnError(f"{error}; rank {', '.join(silent)} of {of} gives no answer") from error
            raise error
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()


async def _all_or_a_failure(tasks: Sequence[asyncio.Task[T]]) -> None:
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    if pending and all(isinstance(task.exception(), RankLost) for task in done if task.exception()):
        await asyncio.wait(pending, timeout=OWN_WORD_S)


async def _answer(reference: Awaitable[T], number: int, of: int) -> T:
    """Await an answer of one rank; its failures come back as LearnError, those that it meant as they are."""
    who = "the learner" if of == 1 else f"rank {number} of {of} of the learner"
    try:
        return await reference
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RftError):
            is_enough = of == 1 or isinstance(cause, RankLost | UsageError)
            raise (cause if is_enough else LearnError(f"{who}: {cause}")) from None
        raise LearnError(f"{who} failed: {type(cause).__name__}: {cause}") from error
    except RayError as error:
        raise LearnError(f"{who} failed: {str(error).strip().splitlines()[-1]}") from error
