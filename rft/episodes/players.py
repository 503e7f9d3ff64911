"""Chooses what plays the episodes of a run: a coroutine in worker processes, or a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rft.config.environment import EnvironmentConfig
from rft.config.tools import ToolConfig
from rft.episodes.attempt import Ending
from rft.episodes.command import CommandPlayer
from rft.episodes.conversation import Conversation
from rft.episodes.process import Host
from rft.episodes.workers import EnvironmentWorkers
from rft.types import Task


class Player(Protocol):
    """Plays episodes with the environment of a run."""

    num_open: int
    """Episodes under way."""

    async def start(self) -> None:
        """Start what can fail before the first step.

        Raises:
            EpisodeError: The environment cannot be loaded on another node.
            WaitTimeout: It was not loaded in time.
        """

    async def count_left(self) -> int:
        """Return the number of episodes, and of tasks that episodes started, that run although the run has ended them.

        Raises:
            WaitTimeout: A process does not answer.
        """

    async def play(self, task: Task, seed: int, begin: Callable[[], Conversation]) -> tuple[Ending, Conversation]:
        """Play one episode. Never raises an error of the environment.

        Args:
            task: The task.
            seed: The seed of the environment.
            begin: Begins the episode on the policy's side, once more if it begins anew.

        Returns:
            The end, and the policy's side of the episode that led to it.

        Raises:
            EpisodeError: The environment cannot run.
            RftError: The policy could not be sampled.
        """

    def metrics(self) -> dict[str, float]:
        """Return what has happened since the last call: to agents' requests `endpoint/...`, and on other nodes."""

    async def close(self) -> None:
        """End all processes."""


def player_of(
    config: EnvironmentConfig,
    tokenizer: Any,
    *,
    tools: Mapping[str, ToolConfig],
    offered: Mapping[str, Sequence[Mapping[str, Any]]],
    fingerprints: Mapping[str, str],
    lowest: float,
    log: Path | None = None,
    hosts: Sequence[Host] = (),
) -> Player:
    """Return the player of a configuration with an environment.

    Args:
        config: The environment.
        tokenizer: The policy's.
        tools: The tools of the run, in place of an environment.
        offered: What their MCP servers offered at the start of the run, by entry.
        fingerprints: Those of the stores that tools search, by entry.
        lowest: Score of an episode that ends at a limit without a score.
        log: File for the output of the environment; None discards it.
        hosts: Where a coroutine and tools run; none takes this machine.
    """
    if config.command is not None:
        return CommandPlayer(config, tokenizer, lowest=lowest, log=log)
    return EnvironmentWorkers(
        config,
        tools=tools,
        offered=offered,
        fingerprints=fingerprints,
        tokenizer=tokenizer,
        lowest=lowest,
        log=log,
        hosts=hosts,
    )
