"""Samples episodes: a sampler like the fleet, whose completions have several turns."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from rft.episodes.conversation import Conversation, Rules
from rft.episodes.players import Player
from rft.sampling.engine import request_seed
from rft.sampling.fleet import Fleet
from rft.sampling.turns import TurnStream
from rft.types import Publication, Rollout, Sync, Task
from rft.waiting import waiting

TRAIN = "train"
"""Beginning of the purposes of a step's samples."""


class EpisodeSampler:
    """Plays an episode for each completion of a task. Implements `rft.batches.Sampler`.

    All episodes of a group have the same environment seed. The seed of a turn depends on the run, purpose, step, task,
    position in the group, and number of the turn, so an episode depends neither on its neighbours nor on the sampler.

    Args:
        fleet: Samples the turns.
        player: Plays each episode with the environment.
        rules: The limits and the renderers.
        seed: Seed of the run.
        max_open: Episodes that are open at the same time.
        filler: Token of an episode without a turn of the policy: an end token of the model.
    """

    def __init__(self, fleet: Fleet, player: Player, rules: Rules, *, seed: int, max_open: int, filler: int) -> None:
        self._fleet = fleet
        self.player = player
        """Plays each episode with the environment."""
        self._rules = rules
        self._seed = seed
        self._slots = asyncio.Semaphore(max_open)
        self._filler = filler
        self._turns_of_step: defaultdict[int, list[TurnStream]] = defaultdict(list)
        """The streams of each step whose policy has not been loaded yet."""

    def sample(
        self, tasks: Sequence[Task], *, completions_per_task: int, temperature: float, purpose: str, step: int
    ) -> AsyncIterator[Rollout]:
        """Start episodes of tasks under the current policy, like `Fleet.sample`; they arrive as they end."""
        turns = self._fleet.turns(num_episodes=len(tasks) * completions_per_task, temperature=temperature)
        if purpose.startswith(TRAIN):
            self._turns_of_step[step].append(turns)
        identity = (self._seed, purpose, step)
        plays = [
            partial(self._play, turns, task, index, place * completions_per_task + index, identity)
            for place, task in enumerate(tasks)
            for index in range(completions_per_task)
        ]
        return EpisodeStream(plays, turns)

    async def load(self, publication: Publication) -> Sync:
        """Load a policy like `Fleet.load`, and report on the episodes from which it was learned.

        Returns:
            With `episode/open_at_end`, what episodes have left open; `episode/engine_busy_share`, the share of the time
            from the start of the step's episodes to their end in which a sampler had turns to sample, as the mean over
            samplers; and `endpoint/...`, what became of agents' requests.
        """
        sync = await self._fleet.load(publication)
        left = {"episode/open_at_end": float(await self.player.count_left())}
        busy = self._busy_share(publication.policy.version)
        return replace(sync, metrics={**sync.metrics, **left, **busy, **self.player.metrics()})

    def _busy_share(self, version: int) -> dict[str, float]:
        """Return the metric of the step that made this version of the policy; none without its episodes."""
        spans = [turns.busy for turns in self._turns_of_step.pop(version, [])]
        available_s = math.fsum(span.available_s for span in spans)
        if not available_s:
            return {}
        return {"episode/engine_busy_share": math.fsum(span.busy_s for span in spans) / available_s}

    async def _play(
        self, turns: TurnStream, task: Task, index: int, number: int, identity: tuple[object, ...]
    ) -> Rollout:
        def begin() -> Conversation:
            return Conversation(
                task, number, seed_parts=(*identity, task.id, index), rules=self._rules, sample=turns.turn
            )

        async with self._slots:
            seed = request_seed(*identity, task.id, "environment")
            ending, conversation = await self.player.play(task, seed, begin)
        assert turns.policy is not None or conversation.transcript is None
        policy = turns.policy or self._fleet.policy
        return conversation.rollout(index, ending.score, policy=policy, filler=self._filler)


class EpisodeStream(AsyncIterator[Rollout]):
    """The episodes of one sample call, as they end. Construction starts them, not iteration.

    Args:
        plays: Plays each episode.
        turns: The stream of their turns, which closes after the last one.
    """

    def __init__(self, plays: Sequence[Callable[[], Awaitable[Rollout]]], turns: TurnStream) -> None:
        self._turns = turns
        self._total = self._remaining = len(plays)
        self._ended: asyncio.Queue[Rollout | BaseException] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._run(play), name="episode") for play in plays]

    async def _run(self, play: Callable[[], Awaitable[Rollout]]) -> None:
        try:
            self._ended.put_nowait(await play())
        except Exception as error:  # raised by the consumer
            self._ended.put_nowait(error)

    async def __anext__(self) -> Rollout:
        """Return the next episode that has ended.

        Raises:
            EpisodeError: The processes of the environment end before they play an episode.
            RftError: Turns could not be sampled.
        """
        try:
            if not self._remaining:
                raise StopAsyncIteration
            with waiting(lambda: f"{self._remaining} of {self._total} episodes"):
                ended = await self._ended.get()
            if isinstance(ended, BaseException):
                raise ended
        except BaseException:  # over, cancelled or failed
            await self.aclose()
            raise
        self._remaining -= 1
        if not self._remaining:
            await self.aclose()  # engines may drop the policy now
        return ended

    async def aclose(self) -> None:
        """Cancel the episodes under way, and wait for their end."""
        self._remaining = 0
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._turns.close()
