"""The settings of environments: episodes of several turns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from rft.config.fields import Number, Positive, PositiveSeconds, Section

SCORE = "environment"
"""Name of the environment's score among the graders."""
MAX_OPEN = 256


class EnvironmentConfig(Section):
    """An environment, which talks with the policy over several turns. See docs/environments.md."""

    use: str | None = None
    """A coroutine function of yours, such as `my_env.py:guess`, or an environment of another system; null samples one
    completion for each prompt."""
    command: str | None = None
    """A program that speaks OpenAI's API, started once for each episode, such as `python agent.py`; rft splits it into
    words and runs it without a shell. See docs/agents.md."""
    style: Literal["gymnasium", "openenv", "skyrl", "textarena", "trl", "verifiers"] | None = None
    """The system of an environment that a function of yours makes; null tells it by the base class of a class."""
    options: dict[str, Any] = {}
    """Further arguments of the function, by name."""
    credit: Literal["episode", "turn"] = "episode"
    """What a reward counts for: all turns of the episode, or (`turn`) the turn that it was given for and those before
    it. See docs/environments.md."""
    discount: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Factor by turn for rewards of later turns, with `credit: turn`."""
    max_turns: Positive = 16
    """Turns of the policy in an episode."""
    max_invalid_calls: Positive = 3
    """Turns in a row with a tool call that cannot be run, after which the episode ends."""
    timeout_s: PositiveSeconds = 60.0
    """Seconds that the environment may use in one episode, without the time in which it waits for the policy; includes
    the start of a command."""
    close_timeout_s: PositiveSeconds = 10.0
    """Seconds that a cancelled episode has for its `finally` blocks, or a command after SIGTERM; then its process is
    killed."""
    max_open: Positive | None = None
    """Episodes that are open at the same time; null takes 256; with a command, which has a process for each,
    4 for each core, at most 64."""
    num_workers: Annotated[Positive | None, Field(le=64)] = None
    """Processes that run environments, each many episodes; null takes one less than the number of cores, at most 4;
    with `placement: samplers`, on each node."""
    placement: Literal["driver", "samplers"] = "driver"
    """Where these processes run: on the machine of the driver, or on every node that has a sampler at the start. See
    docs/cluster.md."""
    files: tuple[str, ...] = ()
    """Further files and folders that the environment or its tools read, such as `words.txt`; with `placement: samplers`
    they travel to the nodes, as the code does by itself."""

    @property
    def is_on(self) -> bool:
        """Whether the run has an environment of the user's."""
        return self.use is not None or self.command is not None

    @property
    def name(self) -> str:
        """The key and value that chose the environment."""
        return f"environment.use={self.use}" if self.command is None else f"environment.command={self.command}"

    @property
    def most_open(self) -> int:
        """Episodes that are open at the same time."""
        if self.max_open is not None:
            return self.max_open
        return MAX_OPEN if self.command is None else min(64, 4 * len(os.sched_getaffinity(0)))


def with_environment_score(values: Any) -> Any:
    """Return the values of a configuration whose graders include the environment's score, if it has an environment.

    Tools give no score of their own, except a class with `get_reward`. Beside other graders, their entry counts for
    nothing unless the user gives it a weight; it carries their faults.
    """
    if not isinstance(values, Mapping):
        return values
    environment, graders = values.get("environment"), values.get("graders") or {}
    values_of = environment if isinstance(environment, Mapping) else vars(environment or object)
    use = values_of.get("use") or values_of.get("command")
    if not (use or values.get("tools")) or not isinstance(graders, Mapping) or SCORE in graders:
        return values
    weight = {} if use or not graders else {"weight": 0.0}
    return {**values, "graders": {**graders, SCORE: {"use": SCORE, **weight}}}


def plays_episodes(config: Any) -> bool:
    """Whether a run or a measurement samples episodes and not single completions."""
    return config.environment.is_on or bool(config.tools)


def lowest_score(graders: Mapping[str, Mapping[str, Any]]) -> float:
    """Return the lowest score of an environment: an episode that ends at a limit without a score gets it."""
    low, _ = graders.get(SCORE, {}).get("range") or (0.0, 1.0)
    return float(low)
