"""Probes of repeatability: an episode depends on its task, its seed and the policy's replies, and on nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from rft.auditing.environments.episodes import Episode
from rft.auditing.environments.policies import RANDOM
from rft.auditing.environments.profile import EnvironmentProfile, difference
from rft.auditing.findings import Finding, failed, not_applicable, passed
from rft.auditing.probe import Probe


async def plays(profile: EnvironmentProfile) -> Finding:
    """Check that ordinary episodes end without a fault of the environment."""
    faults = [episode for episode in profile.ordinary if episode.has_failed]
    figures = {"episodes": len(profile.ordinary), "faults": len(faults)}
    if faults:
        message = f"{len(faults)} of {len(profile.ordinary)} ordinary episodes have no reward: {faults[0].score.reason}"
        return failed(message, faults, **figures)
    turns = [len(episode.replies) for episode in profile.ordinary]
    if not max(turns):
        return failed("no episode asks the policy for a turn", profile.ordinary, **figures)
    return passed(f"{len(turns)} episodes of {min(turns)} to {max(turns)} turns end without a fault", **figures)


async def same_twice(profile: EnvironmentProfile) -> Finding:
    """Play episodes again, in the same process and in a new one."""
    if not profile.sound:
        return not_applicable("no ordinary episode ends without a fault")
    other = profile.other()
    try:
        here = [(episode, await profile.again(episode)) for episode in profile.sound]
        there = [(episode, await profile.again(episode, other)) for episode in profile.sound]
    finally:
        await other.workers.close()
    for pairs, where in ((here, "in the same process"), (there, "in another process")):
        if differing := _differing(pairs):
            first, second = differing[0]
            message = f"{len(differing)} of {len(pairs)} episodes differ when they are played again {where}: "
            return failed(message + difference(first, second), [second for _, second in differing])
    return passed(f"{len(here)} episodes are the same again, also in another process", episodes=2 * len(here))


async def side_by_side(profile: EnvironmentProfile) -> Finding:
    """Play episodes again, all at the same time in one process."""
    if len(profile.sound) < 2:
        return not_applicable("fewer than two ordinary episodes end without a fault")
    again = await asyncio.gather(*map(profile.again, profile.sound))
    if differing := _differing(zip(profile.sound, again, strict=True)):
        first, second = differing[0]
        message = f"{len(differing)} of {len(again)} episodes differ when others are played at the same time: "
        return failed(message + difference(first, second), [second for _, second in differing])
    return passed(f"{len(again)} episodes at the same time are the same as one after another", episodes=len(again))


async def after_a_broken_one(profile: EnvironmentProfile) -> Finding:
    """Break an episode off before each of its turns, and play an ordinary one after it."""
    if not profile.sound:
        return not_applicable("no ordinary episode ends without a fault")
    longest = max(profile.sound, key=lambda episode: len(episode.replies))
    pairs = []
    for turn in range(len(longest.replies)):
        await profile.player.play(longest.task, RANDOM[0], stop_at=turn)
        await profile.player.play(longest.task, RANDOM[1], stop_at=turn)
        pairs.append((longest, await profile.again(longest)))
    if differing := _differing(pairs):
        first, second = differing[0]
        message = f"{len(differing)} of {len(pairs)} episodes differ after another one was broken off: "
        return failed(message + difference(first, second), [second for _, second in differing])
    return passed(f"{len(pairs)} episodes are the same after others were broken off", episodes=3 * len(pairs))


def _differing(pairs: Iterable[tuple[Episode, Episode]]) -> list[tuple[Episode, Episode]]:
    return [(first, second) for first, second in pairs if first.course != second.course]


PROBES = (
    Probe(
        name="ordinary play",
        family="repeatability",
        why="An episode in which the environment fails has no reward. If the environment fails more often for some "
        "replies, the remaining episodes are a biased selection.",
        how="One episode of each of the first 8 tasks with two policies, which say words and numbers that they have "
        "heard.",
        threshold="fails if any episode ends with a fault, or if no episode asks for a turn",
        remedy="Read the reason and environment.log; tell the policy what it did wrong instead of raising.",
        run=plays,
    ),
    Probe(
        name="the same twice",
        family="repeatability",
        why="All episodes of a group must meet the same chances, and a resumed run must meet them again.",
        how="Those episodes again: the same task, seed and replies, in the same process and in a new one.",
        threshold="fails if an observation, a reward or the score differs",
        remedy="Draw all random numbers from random.Random(seed); depend on no clock, no hash() of a text, no order of "
        "a set, and on nothing that an earlier episode has left.",
        run=same_twice,
    ),
    Probe(
        name="side by side",
        family="repeatability",
        why="rft plays many episodes at the same time in one process.",
        how="Those episodes again, all at the same time.",
        threshold="fails if an observation, a reward or the score differs",
        remedy="Keep the state in local variables; use no global variable, no generator of the whole process, and no "
        "file that episodes share.",
        run=side_by_side,
    ),
    Probe(
        name="after a broken one",
        family="repeatability",
        why="A lost process, a time limit or the end of a run breaks episodes off.",
        how="An episode is broken off before each of its turns, twice; after it, an ordinary one is played again.",
        threshold="fails if an observation, a reward or the score differs",
        remedy="Begin every episode with fresh state, and clean up in a finally block.",
        run=after_a_broken_one,
    ),
)
