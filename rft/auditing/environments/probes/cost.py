"""Probe of the cost: time of the environment at the concurrency of the planned run."""

from __future__ import annotations

import asyncio
import time

from rft.auditing.environments.policies import RANDOM
from rft.auditing.environments.profile import EnvironmentProfile
from rft.auditing.findings import Finding, failed, passed, warned
from rft.auditing.probe import Probe
from rft.grading.report import percentiles

SLOW_STEP_S = 60.0
MAX_EPISODES = 256


async def latency(profile: EnvironmentProfile) -> Finding:
    """Play the episodes of a step at the same time, and measure."""
    number = min(MAX_EPISODES, profile.episodes_per_step)
    tasks = [profile.tasks[place % len(profile.tasks)] for place in range(number)]
    player = profile.planned()
    slots = asyncio.Semaphore(profile.max_open)

    async def play(place: int) -> tuple[float, ...]:
        async with slots:
            episode = await player.play(tasks[place], RANDOM[place % len(RANDOM)], number=place)
        return () if episode.has_failed else episode.seconds

    try:
        await play(0)  # starts a process
        began_s = time.monotonic()
        seconds = [each for each in await asyncio.gather(*map(play, range(number))) if each]
        wall_s = time.monotonic() - began_s
    finally:
        await player.workers.close()
    if not seconds:
        return failed(f"none of {number} episodes at the same time ends without a fault")
    of_turns = percentiles([turn for each in seconds for turn in each[1:]])
    longest_s = max(map(sum, seconds))
    step_s = wall_s * profile.episodes_per_step / number
    figures = {"turn_s": of_turns, "episode_s_max": longest_s, "step_s": step_s}
    times = ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in of_turns.items())
    message = (
        f"a turn takes {times}; the {profile.episodes_per_step} episodes of a step take {step_s:.1f} s without a "
        f"model, up to {profile.max_open} at the same time"
    )
    if step_s > SLOW_STEP_S:
        return warned(f"{message}: sampling will wait for the environment", (), **figures)
    if longest_s > profile.timeout_s / 2:
        return warned(
            f"{message}: the longest episode is near environment.timeout_s={profile.timeout_s:g}", (), **figures
        )
    return passed(message, **figures)


PROBES = (
    Probe(
        name="latency",
        family="cost",
        why="A slow environment determines the speed of the run, and episodes beyond environment.timeout_s have no "
        "reward.",
        how="As many episodes as a step plays, at the planned concurrency, with random policies that need no time.",
        threshold="warns if a step takes more than 60 s, or an episode more than half of environment.timeout_s",
        remedy="Raise environment.num_workers, await instead of blocking, or raise environment.timeout_s.",
        run=latency,
    ),
)
