"""The roster of a run: the samplers that serve it now, and those that are being replaced.

A sampler that died, hangs, or failed a proof leaves the roster. Its unfinished requests go to samplers that hold the
same policy. A new sampler starts in its place, loads and proves the policies that requests without a sampler still
need, the oldest first, then the current policy, and joins the roster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from ray.exceptions import RayError

from rft.config.samplers.base import SamplerConfig
from rft.errors import LearnerLost, RftError, SamplersLost, SyncError
from rft.sampling.actor import GATHER_S
from rft.sampling.contact import Contact
from rft.sampling.engine import Request
from rft.sampling.engines import Engines, SamplerHandle
from rft.sampling.failures import GO_ON, failure, is_loss, loss
from rft.sampling.held_publications import Published
from rft.sampling.loader import Loader
from rft.sampling.members import Member
from rft.sampling.replacements import Replacements
from rft.sampling.sampler_events import DuplicatesDropped, SamplerEvent, SamplerJoined, SamplerLost, SamplerReplaced
from rft.sampling.stream import RolloutStream, until_received
from rft.types import Policy, Publication
from rft.waiting import waiting

MESSAGES_PER_S = 600
"""Maximum messages per second from all samplers to the driver. Each message costs the driver 0.7 ms of CPU time,
regardless of its completions. With more samplers, completions are therefore collected for longer."""


class Roster:
    """The samplers that serve one run. Implements `StreamOwner`.

    Args:
        engines: The actors, which may still be starting.
        settings: The run's settings of its samplers.
        loader: Loads policies of the run.
        tell: Receives losses and replacements.
        warn: Shows a warning for an excluded sampler.
    """

    def __init__(
        self,
        engines: Engines,
        settings: SamplerConfig,
        loader: Loader,
        *,
        tell: Callable[[SamplerEvent], None],
        warn: Callable[[str], None],
    ) -> None:
        self.policy = engines.spec.base
        """The policy of new streams, which every member holds."""
        self.streams: list[RolloutStream] = []
        """Streams that may still have unfinished requests."""
        self._engines = engines
        self._settings = settings
        self._loader = loader
        self._contact: Contact = loader.contact
        self._tell = tell
        self._warn = warn
        self.renew: Callable[[Policy], Awaitable[Publication | None]] | None = None
        """Publishes a policy again whose weights were lost with the learner's process; None if the learner no longer
        keeps it, because it has published a newer one."""
        self._published = Published(engines.spec.base)
        self._syncing = asyncio.Lock()
        self._replacements = Replacements(self._replace, on_end=self._assign_all)
        self._error: RftError | None = None
        """The reason why the run cannot continue."""
        engines.listeners.append(self._on_loss)
        self.members = [Member(sampler=sampler, held=[engines.spec.base]) for sampler in engines.present]
        """The samplers that hold the current policy."""
        for sampler in engines.samplers:
            if sampler.is_lost and sampler not in engines.late:  # another run that uses the engines lost it
                self._replacements.start(sampler, f"{sampler.name} was lost by another run")

    @property
    def target(self) -> Policy:
        """The policy of the last load, which may still be under way."""
        return self._published.target

    @property
    def has_enough(self) -> bool:
        """Whether at least `sampler.min_actors` samplers serve."""
        return len(self.members) >= self._settings.min_actors

    async def until_enough(self, at_least: int | None = None) -> None:
        """Wait until enough samplers serve.

        Args:
            at_least: Number of samplers; `sampler.min_actors` by default.

        Raises:
            SamplersLost: Too few remain, and no replacement could be started in time.
            SyncError: The replacements could not prove the current policy.
        """
        number = self._settings.min_actors if at_least is None else at_least
        if len(self.members) < number and self._replacements:
            with waiting(lambda: f"{number - len(self.members)} of {number} sampler(s) to be replaced"):
                await self._replacements.until(lambda: len(self.members) >= number or not self._replacements)
        if len(self.members) < number:
            raise self._lack()

    def _lack(self) -> RftError:
        """Return the error of a run that has too few samplers."""
        failures = self._replacements.failures
        reasons = "\n".join(map(str, failures)) or "no sampler holds the requested policy any more"
        kind = SyncError if failures and isinstance(failures[-1], SyncError) else SamplersLost
        return kind(
            f"{reasons}\n{len(self.members)} sampler(s) remain (sampler.min_actors={self._settings.min_actors}); "
            f"{GO_ON}"
        )

    # Streams

    def assign(self, stream: RolloutStream, members: Sequence[Member] | None = None) -> None:
        """Send the unassigned requests of a stream to samplers that hold its policy.

        If there is none, the requests wait for a replacement; without a replacement, the stream fails.

        Args:
            stream: The stream. A new one gets the current policy.
            members: The samplers to choose from; all members by default.
        """
        if self._error:
            stream.fail(self._error)
            return
        stream.policy = stream.policy or self.policy
        if not stream.unassigned or self.is_asleep:
            return
        holders = [member for member in (self.members if members is None else members) if stream.policy in member.held]
        if not holders:
            if members is None and not self._replacements:
                stream.fail(self._lack())
            return
        samplers = [member.sampler for member in holders]
        gather_s = max(GATHER_S, len(holders) / MESSAGES_PER_S)
        for sampler, share in zip(samplers, stream.divide(samplers), strict=True):
            if share:
                self._send(stream, sampler, share, gather_s)

    def _send(
        self, stream: RolloutStream, sampler: SamplerHandle, requests: Sequence[Request], gather_s: float
    ) -> None:
        number = next(self._engines.stream_numbers)
        messages = sampler.actor.sample.options(num_returns="streaming").remote(
            number, requests, stream.options, stream.policy, self._loader.run, gather_s
        )

        def abort() -> None:
            if not self._engines.is_closed:
                sampler.actor.abort.remote(number)

        stream.send(sampler, requests, messages, abort)

    def _assign_all(self, members: Sequence[Member] | None = None) -> None:
        """Assign the requests of all streams that have started."""
        for stream in self.streams:
            if stream.policy is not None:
                self.assign(stream, members)

    def sampler_failed(self, stream: RolloutStream, sampler: SamplerHandle, error: RayError) -> None:
        """Give up a sampler that is lost. Any other failure would come back, so the stream fails."""
        if is_loss(error):
            self._engines.lose(sampler, loss(sampler.name, error))
        else:
            stream.fail(failure(sampler.name, error))

    def duplicates_dropped(self, sampler: SamplerHandle, num_completions: int) -> None:
        """Report dropped completions."""
        self._report(DuplicatesDropped(sampler=sampler.name, num_completions=num_completions))

    async def is_alive(self, sampler: SamplerHandle) -> bool:
        """Ask a silent sampler for a sign of life; one without is given up."""
        return await self._contact.is_alive(sampler)

    # Losses

    def _on_loss(self, sampler: SamplerHandle, reason: str) -> None:
        """Take a sampler off the roster, and let others sample its unfinished requests."""
        num_redone = sum(stream.lose(sampler) for stream in self.streams)
        was_member = any(member.sampler is sampler for member in self.members)
        self.members = [member for member in self.members if member.sampler is not sampler]
        if was_member:
            self._replacements.start(sampler, reason)
        self._assign_all()
        if was_member or num_redone:
            self._report(SamplerLost(sampler=sampler.name, reason=reason, num_completions=num_redone))

    def _report(self, event: SamplerEvent) -> None:
        """Report an event. If it cannot be written, the run fails.

        It is reported from tasks whose errors nothing receives, and other runs must learn of a loss all the same.
        """
        try:
            self._tell(event)
        except RftError as error:
            self.fail(error)

    def fail(self, error: RftError) -> None:
        """Let the open streams, the next stream, and the next load raise an error."""
        self._error = error
        for stream in self.streams:
            stream.fail(error)

    def admit(self) -> None:
        """Let samplers that had no place at the start join as soon as they have one.

        They wait for it as long as the run lasts. The run does not wait for them.
        """
        late = [sampler for sampler in self._engines.late if sampler in self._engines.samplers]
        for sampler in late:
            reason = f"{sampler.name} had no place when the run started"
            self._replacements.start_later(sampler, reason, self._engines.until_placed(sampler))
        if late:
            self._warn(
                f"only {len(self.members)} of {len(self._engines.samplers)} samplers have a place "
                f"(sampler.min_actors={self._settings.min_actors}); each of the others joins when there is room for it"
            )

    async def _replace(self, lost: SamplerHandle, reason: str) -> None:
        """Let a new sampler join the roster in the place of a lost one."""
        began_s = time.monotonic()
        event = SamplerJoined if lost in self._engines.late else SamplerReplaced
        try:
            is_joined = False
            while not is_joined:
                await self._replacements.until_allowed()
                sampler = await self._engines.replacement(lost)
                try:
                    # It serves the base model from the start.
                    if problem := self._loader.proofs.base_problem(sampler, self._published.of_target, lost):
                        raise SyncError(f"its replacement cannot serve: {problem}")
                    is_joined = await self._bring_in(Member(sampler=sampler, held=[self._engines.spec.base]))
                except RftError as error:
                    if self._engines.spec.num_runs == 1:  # other runs may serve with it
                        self._engines.lose(sampler, str(error))
                    raise
                lost = sampler
        except RftError as error:
            kind = SyncError if isinstance(error, SyncError) else SamplersLost
            self._replacements.failures.append(kind(f"{reason}; {error}"))
            if self.members:
                self._warn(f"{reason}; {error}; {len(self.members)} sampler(s) continue")
        else:
            self._report(event(sampler=lost.name, seconds=time.monotonic() - began_s))

    async def _bring_in(self, member: Member) -> bool:
        """Let a new sampler join, also if the learner is lost meanwhile; return False if the sampler is lost."""
        while True:
            await self._replacements.until_allowed()
            try:
                return await self._join(member)
            except LearnerLost:
                if self.renew is None:
                    raise
            with self._replacements.renewing():
                await self._renew_for(member, self.renew)

    async def _renew_for(self, member: Member, renew: Callable[[Policy], Awaitable[Publication | None]]) -> None:
        """Get the weights that a sampler needs next from the learner's new process."""
        target, lost = self._published.target, self._next_policy(member)
        if lost is None:
            return
        if renewed := await renew(lost.policy):
            self._published.renew(renewed)
        else:  # the load of a newer policy follows
            await self._replacements.until(lambda: self._published.target != target)

    async def _join(self, member: Member) -> bool:
        """Bring a new sampler to the policies that it must serve; return False if it is lost meanwhile.

        Raises:
            LearnerLost: The weights of a policy were lost with the learner's process.
            SyncError: The sampler could not prove a policy.
        """
        async with self._syncing:
            while not member.sampler.is_lost:
                self._assign_all([member])
                publication = self._next_policy(member)
                if publication is None:
                    self.members.append(member)
                    return True
                await until_received(self.streams, self._contact)
                for _, problem in await self._loader.load([member], publication):
                    raise SyncError(f"its replacement was given {publication.policy.name}: {problem}")
        return False

    def _next_policy(self, member: Member) -> Publication | None:
        """Return the policy that a new sampler must load next; None if it holds all."""
        return self._published.next_for(member.held, {stream.policy for stream in self.streams if stream.needs_policy})

    # Policies

    async def load(self, publication: Publication) -> None:
        """Load a policy into all members, and let lost samplers be replaced under it.

        Raises:
            LearnerLost: The learner's process died, and the weights of the policy with it.
            SamplersLost: No sampler remains.
            SyncError: Samplers did not pass the proof.
            WaitTimeout: Samplers that are alive did not reply in time.
            WriteError: An event of a sampler could not be written.
        """
        if self._error:
            raise self._error
        # It stays the target after a loss of the learner, since this load is then repeated.
        self._published.aim_at(publication)
        self._replacements.allow()
        await self._load_members(publication)
        # The next batch waits for enough samplers: at the end of a step, not within it, the run can be saved.
        await self.until_enough(1)
        self.policy = publication.policy
        self._published.keep([stream.policy for stream in self.streams if stream.policy and not stream.is_over])

    async def _load_members(self, publication: Publication) -> None:
        async with self._syncing:
            await until_received(self.streams, self._contact)
            self._judge(publication.policy, await self._loader.load(tuple(self.members), publication))

    def _judge(self, policy: Policy, failed: Sequence[tuple[Member, str]]) -> None:
        """Stop, replace the samplers that failed, or continue without them, as configured.

        Runs that share the samplers do not replace each other's, and continue without those that failed.

        Raises:
            SyncError: Contains the failure of every actor.
        """
        if not failed:
            return
        reaction = self._settings.on_failed_proof
        messages = [
            f"{member.sampler.name} was given {policy.name} after {self.policy.name}: {why}" for member, why in failed
        ]
        if reaction == "replace" and self._engines.spec.num_runs == 1:  # other runs may have proved their policies
            for (member, _), message in zip(failed, messages, strict=True):
                self._engines.lose(member.sampler, message)
            return
        if reaction == "stop" or len(failed) == len(self.members):
            raise SyncError("\n".join(messages))
        excluded = [member for member, _ in failed]
        self.members = [member for member in self.members if member not in excluded]
        # They finish running requests under older, proved policies.
        for message in messages:
            self._warn(f"{message}. It is excluded; {len(self.members)} sampler(s) continue")

    # Sleep

    @property
    def is_asleep(self) -> bool:
        """Whether the samplers sleep, or are about to. They receive no requests, and none is replaced."""
        return self._replacements.are_paused

    async def until_awake(self) -> None:
        """Wait while the samplers sleep.

        Raises:
            RftError: The run cannot continue.
        """
        if self._error:
            raise self._error
        with waiting("the samplers to wake"):
            await self._replacements.until_allowed()

    async def pause(self) -> None:
        """Wait for replacements and requests under way; others wait for the next `load` or `wake`."""
        await self._replacements.pause()
        for stream in self.streams:
            await stream.until_idle()

    async def wake(self, publication: Publication) -> None:
        """Wake the samplers under the target. Lost samplers are replaced later.

        Raises:
            LearnerLost: The learner's process died, and the weights of the policy with it.
            SyncError: Samplers did not pass the proof.
            WaitTimeout: Samplers that are alive did not reply in time.
        """
        self._published.aim_at(publication)
        await self._load_members(publication)
        self._replacements.allow()
        self._assign_all()

    async def end(self) -> None:
        """Cancel all streams and replacements."""
        if self._on_loss in self._engines.listeners:
            self._engines.listeners.remove(self._on_loss)
        await self._replacements.cancel()
        for stream in self.streams:
            await stream.aclose()
