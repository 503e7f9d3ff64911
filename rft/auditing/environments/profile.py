"""What all probes of an environment share: its tasks, its processes, and ordinary episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rft.auditing.answers import as_text
from rft.auditing.environments.episodes import Episode, Player
from rft.auditing.environments.policies import RANDOM, repeating
from rft.types import Task

NUM_TASKS = 8
"""Tasks whose episodes are compared with each other."""


@dataclass(kw_only=True, eq=False)
class EnvironmentProfile:
    """The environment under audit. Call `explore` before the probes."""

    player: Player
    """Plays in one process."""
    other: Callable[[], Player]
    """Returns a player in a new process."""
    planned: Callable[[], Player]
    """Returns a player in as many processes as a run has."""
    tasks: Sequence[Task]
    """The tasks."""
    gold: str
    """The column with the reference."""
    range: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest score."""
    episodes_per_step: int = 64
    """Episodes of one step of the planned run."""
    max_open: int = 256
    """Episodes that the planned run plays at the same time."""
    timeout_s: float = 60.0
    """Seconds that the environment may use in one episode."""
    ordinary: list[Episode] = field(default_factory=list, init=False)
    """An episode of each of the first tasks with each random policy."""

    async def explore(self) -> None:
        """Play the ordinary episodes, one after another."""
        for task in self.tasks[:NUM_TASKS]:
            for number, policy in enumerate(RANDOM):
                self.ordinary.append(await self.player.play(task, policy, number=number))

    @property
    def sound(self) -> list[Episode]:
        """The ordinary episodes without a fault."""
        return [episode for episode in self.ordinary if not episode.has_failed]

    async def again(self, episode: Episode, player: Player | None = None) -> Episode:
        """Play an episode again: the same task, seed and replies."""
        return await (player or self.player).play(episode.task, repeating(episode.replies), seed=episode.seed)

    def share(self, episode: Episode) -> float | None:
        """Return an episode's share of the range of scores; None without a score."""
        low, high = self.range
        return None if episode.score.value is None else (episode.score.value - low) / (high - low)

    def reference(self, task: Task) -> str | None:
        """Return the reference of a task as a text; None without one."""
        value = task.item.get(self.gold)
        return None if value in (None, "") else as_text(value)


def difference(first: Episode, second: Episode) -> str:
    """Return the first difference between two episodes of equal seeds and replies; empty without one."""
    for turn, (one, other) in enumerate(zip(first.heard, second.heard, strict=False), start=1):
        if one != other:
            return f"before turn {turn}, it said {_said(one)!r} and then {_said(other)!r}"
    if len(first.heard) != len(second.heard):
        return f"it ended after {len(first.heard)} turns and then after {len(second.heard)}"
    if first.rewards != second.rewards:
        return f"it gave the rewards {dict(first.rewards)} and then {dict(second.rewards)}"
    scores = first.score.value, second.score.value
    return "it returned the score {} and then {}".format(*scores) if scores[0] != scores[1] else ""


def _said(messages: Sequence[Any]) -> str:
    return "\n".join(str(message["content"]) for message in messages)[:80]
