"""Runs the learner in Ray actors, one for each rank. Every wait of the loop has a name and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayError, RayTaskError, WorkerCrashedError

from rft.data.demonstration_records import TokenRow
from rft.errors import LearnerLost, LearnError, RankLost, RftError, UsageError, WaitTimeout, WriteError
from rft.learning.batch_parts import from_parts, to_parts
from rft.learning.build import build_learner
from rft.learning.spec import Backend, LearnerSpec, RankPlace, rank_name
from rft.reliability.stack_traces import write_stacks_on_signal
from rft.reliability.temporary import temporary_folder
from rft.types import Adapter, FullWeights, GradedGroup, Logprobs, Policy, Publication, StoredWeights
from rft.waiting import blocking, wait_for

T = TypeVar("T")

FIRST_FAILURE_S = 10.0
"""Seconds allowed for a rank's own failure to arrive after another rank has lost contact with it."""

_RAYS_GUESSES = " Some common causes include:"
"""Start of a list in Ray's message about a dead process, which is the same for every cause."""


class LearnerActor:
    """A learner in its own process.

    Args:
        spec: Spec of the learner.
    """

    _newest: Publication | None = None
    """The last publication, by reference. The object store keeps its weights until the next publication."""

    def __init__(self, spec: LearnerSpec) -> None:
        write_stacks_on_signal()
        self._learner = build_learner(spec)

    def steps_done(self) -> int:
        """Optimizer steps taken so far."""
        return self._learner.steps_done

    def call(self, name: str, *arguments: Any) -> Any:
        """Call the learner's method of this name."""
        return getattr(self._learner, name)(*arguments)

    def call_with(self, name: str, *parts: bytes) -> Any:
        """Call the learner's method of this name on a batch from `to_parts`."""
        return getattr(self._learner, name)(from_parts(parts))

    def learn(self, *parts: bytes) -> dict[str, float]:
        """Take one optimizer step on a batch from `to_parts`; return the learner's metrics."""
        metrics: dict[str, float] = self._learner.learn(from_parts(parts))
        return metrics

    def publish(self) -> Publication:
        """Publish the current policy; its weights stay in the object store of this node."""
        return self._by_reference(self._learner.publish())

    def start_publication(self) -> Publication | None:
        """Return the adapter that the run started from; its weights stay in the object store of this node."""
        start = self._learner.start_publication()
        return None if start is None else self._by_reference(start)

    def history(self) -> list[Publication]:
        """Return the last publications, oldest first; their weights stay in the object store of this node."""
        return [self._by_reference(publication) for publication in self._learner.history()]

    def _by_reference(self, publication: Publication) -> Publication:
        if self._newest is None or self._newest.policy != publication.policy:
            weights = publication.weights
            stored = StoredWeights(policy=weights.policy, num_bytes=weights.num_bytes, reference=ray.put(weights))
            self._newest = replace(publication, weights=stored)
        return self._newest


class RankActor(LearnerActor):
    """One rank of a learner, in its own process.

    Args:
        spec: Spec of the learner.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        write_stacks_on_signal()
        self._spec = spec
        self._store: Any = None

    def open_store(self) -> str:
        """Open the store in which the ranks meet, and return its `host:port`."""
        from rft.learning.rank_store import open_store

        host = ray.util.get_node_ip_address()
        self._store = open_store(host)
        return f"{host}:{self._store.port}"

    def place(self, number: int, of: int, address: str, backend: Backend) -> RankPlace:
        """Return the place of this rank.

        Args:
            number: Number of this rank.
            of: Number of ranks.
            address: `host:port` of the store.
            backend: Backend that sums the gradients.
        """
        host = ray.util.get_node_ip_address()
        gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU")
        gpu = ",".join(gpus) if gpus else None
        return RankPlace(number=number, of=of, address=address, host=host, backend=backend, gpu=gpu)

    def join(self, place: RankPlace) -> int:
        """Join the other ranks and build this one; return its completed steps."""
        if place.number == 0:
            self._learner = build_learner(self._spec, place)
        else:
            with temporary_folder("rank") as folder:  # TRL requires a folder; it stays empty
                quiet = replace(self._spec, run_folder=folder, canaries=())
                self._learner = build_learner(quiet, place)
        return self._learner.steps_done


class RemoteLearner:
    """The loop's handle of the learner, which is one process or several ranks.

    Args:
        specs: Spec of the learner for each rank.
        actor_options: Ray's options for the actor of each rank: its resources and its node.
        start_timeout_s: Deadline for loading the model, seconds.
        node: Name of the node of a learner of one process, for messages; empty on this machine.
        backend: Backend that sums the gradients of several ranks.
    """

    def __init__(
        self,
        specs: Sequence[LearnerSpec],
        *,
        actor_options: Sequence[Mapping[str, Any]],
        start_timeout_s: float,
        node: str = "",
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
        self._places: list[Any] = []
        if of == 1:
            self._names = [f"the learner on node {node}" if node else "the learner"]
            self._started = [self._first.steps_done.remote()]
        else:
            self._names = [rank_name(number, of) for number in range(of)]
            address = self._first.open_store.remote()
            self._places = [
                actor.place.remote(number, of, address, backend) for number, actor in enumerate(self._actors)
            ]
            self._started = [actor.join.remote(place) for actor, place in zip(self._actors, self._places, strict=True)]

    async def start(self) -> int:
        """Wait until all ranks have started; return their completed steps.

        Raises:
            LearnError: A rank failed, or the ranks start from different weights.
            LearnerLost: A process died or did not start in time.
        """
        what, deadline_s = "the learner to start", self._start_timeout_s
        if self._places:
            places: list[RankPlace] = await ask_ranks(self._places, what, deadline_s, names=self._names)
            self._names = [place.name for place in places]
        steps: list[int] = await ask_ranks(self._started, what, deadline_s, names=self._names)
        await self._compare("at the start")
        return steps[0]

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step on these groups; return the learner's metrics."""
        what = "the batch to be packed"
        parts = await blocking(lambda: to_parts(groups), what=what, deadline_s=self._step_timeout_s)
        metrics: list[dict[str, float]]
        metrics = await self._answers([actor.learn.remote(*parts) for actor in self._actors], "the learner's step")
        return metrics[0]

    async def start_logprobs(self, count: int) -> list[list[float] | None]:
        """Return log-probabilities under the start of the run, like `LocalLearner.start_logprobs`."""
        what = "the log-probabilities of the start"
        logprobs: list[list[float] | None] = await self._ask_first("call", what, "start_logprobs", count)
        return logprobs

    async def losses(self, rows: Sequence[TokenRow]) -> list[float]:
        """Return `[N]` negative log-likelihoods of rows under the current policy of `learner=sft`."""
        what = "the rows to be packed"
        parts = await blocking(lambda: to_parts(rows), what=what, deadline_s=self._step_timeout_s)
        losses: list[float] = await self._ask_first("call_with", "the loss on validation tasks", "losses", *parts)
        return losses

    async def publish(self) -> Publication:
        """Publish the current policy. Its weights are a reference, valid while the learner lives.

        Raises:
            LearnError: The ranks hold different weights.
        """
        publication: Publication = await self._ask_first("publish", "the learner to publish")
        await self._compare(f"after step {publication.policy.version}")
        return publication

    async def policy(self) -> Policy:
        """Return version and fingerprint of the current policy, without a publication.

        Raises:
            LearnError: The ranks hold different weights.
        """
        policy: Policy = await self._ask_first("call", "the learner's policy", "policy")
        await self._compare(f"after step {policy.version}")
        return policy

    async def weights(self) -> Adapter | FullWeights:
        """Fetch the weights of the current policy into this process."""
        stored = (await self.publish()).weights
        assert isinstance(stored, StoredWeights)  # guaranteed by `LearnerActor.publish`
        what, deadline_s = "the trained weights", self._step_timeout_s
        weights: list[Adapter | FullWeights]
        weights = await ask_ranks([stored.reference], what, deadline_s, names=self._names)
        return weights[0]

    async def base_canary_logprobs(self) -> Logprobs:
        """Return the base model's scores of the canaries."""
        what = "the base model's scores of the canaries"
        scores: Logprobs = await self._ask_first("call", what, "base_canary_logprobs")
        return scores

    async def start_publication(self) -> Publication | None:
        """Return the adapter that the run started from, with a reference as from `publish`; None for the base model."""
        publication: Publication | None = await self._ask_first("start_publication", "the start of the run")
        return publication

    async def history(self) -> list[Publication]:
        """Return the last publications, oldest first, with references as from `publish`."""
        publications: list[Publication] = await self._ask_first("history", "the learner's history")
        return publications

    async def release_memory(self) -> None:
        """Give GPU memory that all ranks reserve but do not use back to other processes."""
        await self._ask_all("release_memory", "the learner to release its memory")

    async def save(self) -> None:
        """Write a checkpoint."""
        await self._ask_first("call", "the learner's checkpoint", "save")

    def kill(self) -> None:
        """Kill the learner's processes immediately."""
        for actor in self._actors:
            ray.kill(actor)

    async def close(self) -> None:
        """Close the learner, then kill its processes."""
        try:
            await self._ask_all("close", "the learner to close")
        finally:
            self.kill()

    async def _compare(self, when: str) -> None:
        """Require equal weights on all ranks; later steps would carry a difference along."""
        if len(self._actors) == 1:
            return
        first, *others = await self._ask_all("checksum", "the ranks to compare their weights")
        if wrong := [number for number, checksum in enumerate(others, start=1) if checksum != first]:
            raise LearnError(
                f"{when} the weights of {self._names[wrong[0]]} differ from those of rank 0; use the same libraries "
                "and the same kind of processor or GPU for every rank"
            )

    async def _ask_first(self, method: str, what: str, *arguments: Any) -> Any:
        reference = getattr(self._first, method).remote(*arguments)
        [answer] = await ask_ranks([reference], what, self._step_timeout_s, names=self._names)
        return answer

    async def _ask_all(self, method: str, what: str) -> list[Any]:
        return await self._answers([actor.call.remote(method) for actor in self._actors], what)

    async def _answers(self, references: Sequence[Awaitable[T]], what: str) -> list[T]:
        """Await the answers of all ranks. A failure ends the others, which may wait for the failed rank."""
        try:
            return await ask_ranks(references, what, self._step_timeout_s, names=self._names)
        except RftError:
            if len(self._actors) > 1:
                self.kill()
            raise


async def ask_ranks(
    references: Sequence[Awaitable[T]], what: str, deadline_s: float, *, names: Sequence[str]
) -> list[T]:
    """Await the answers of all ranks, or the first failure, since other ranks may wait for the failed rank.

    The loss of a rank is often reported before the rank's own failure, so that failure gets `FIRST_FAILURE_S` to
    arrive.

    Args:
        references: The answers of the first ranks, by rank.
        what: Name of the wait.
        deadline_s: Seconds.
        names: Name of every rank for messages; a learner of one process has one.

    Raises:
        LearnError: The learner failed. Names the rank if there are several.
        LearnerLost: A process died, or an answer did not come in time. Names the rank if there are several.
    """
    is_alone = len(names) == 1
    tasks = [
        asyncio.create_task(_answer(reference, name, is_alone=is_alone))
        for reference, name in zip(references, names, strict=False)
    ]
    try:
        try:
            await wait_for(_all_or_a_failure(tasks), what=what, deadline_s=deadline_s)
        except WaitTimeout as expired:
            text = str(expired)
            raise LearnerLost(text if is_alone else _without_answer(text, tasks, names)) from expired
        if failures := [error for task in tasks if task.done() and (error := task.exception())]:
            # A rank's own error explains the loss of others, and a lost process explains a missed one.
            first = min(failures, key=lambda error: (isinstance(error, LearnerLost), isinstance(error, RankLost)))
            if isinstance(first, RankLost):
                raise LearnerLost(_without_answer(str(first), tasks, names)) from first
            raise first
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()


def _without_answer(text: str, tasks: Sequence[asyncio.Task[T]], names: Sequence[str]) -> str:
    """Add the ranks that have not answered to an error's text, unless it names them."""
    silent = [name for task, name in zip(tasks, names, strict=False) if not task.done() and name not in text]
    return f"{text}; no answer from {' and '.join(silent)}" if silent else text


async def _all_or_a_failure(tasks: Sequence[asyncio.Task[T]]) -> None:
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    if pending and all(isinstance(task.exception(), RankLost) for task in done if task.exception()):
        await asyncio.wait(pending, timeout=FIRST_FAILURE_S)


async def _answer(reference: Awaitable[T], name: str, *, is_alone: bool) -> T:
    """Await the answer of one rank.

    A failure becomes a LearnError or LearnerLost that names the rank. RankLost, UsageError, WriteError, and every error
    of rft in a learner of one process pass unchanged.
    """
    try:
        return await reference
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RftError):
            is_enough = is_alone or isinstance(cause, RankLost | UsageError | WriteError)
            kind = LearnerLost if isinstance(cause, LearnerLost) else LearnError
            raise (cause if is_enough else kind(f"{name}: {cause}")) from None
        raise LearnError(f"{name} failed: {type(cause).__name__}: {cause}") from error
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        if _is_loss(error):
            raise LearnerLost(f"{name} is lost: its process ended: {reason.partition(_RAYS_GUESSES)[0]}") from error
        raise LearnError(f"{name} failed: {reason}") from error


def _is_loss(error: RayError) -> bool:
    """Whether a process or a node died; an actor whose constructor raised would raise again."""
    if isinstance(error, RayActorError):
        return not error.actor_init_failed
    return isinstance(error, NodeDiedError | ObjectLostError | WorkerCrashedError)
