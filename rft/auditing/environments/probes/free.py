"""Probes of what a policy earns that does nothing, or tries at random."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rft.auditing.environments.episodes import Episode
from rft.auditing.environments.policies import FREE, RANDOM, ScriptedPolicy
from rft.auditing.environments.profile import EnvironmentProfile
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.probe import Probe

FAIL_ABOVE, WARN_ABOVE = 0.5, 0.1


async def effortless(profile: EnvironmentProfile) -> Finding:
    """Check that policies that do not try earn next to nothing."""
    return await _earned(profile, FREE, WARN_ABOVE)


async def at_random(profile: EnvironmentProfile) -> Finding:
    """Measure what random policies earn: what a trained policy must exceed."""
    return await _earned(profile, RANDOM, FAIL_ABOVE / 2)


async def _earned(profile: EnvironmentProfile, policies: Sequence[ScriptedPolicy], warn_above: float) -> Finding:
    episodes: dict[str, list[Episode]] = {
        policy.name: [await profile.player.play(task, policy, number=2) for task in profile.tasks]
        for policy in policies
    }
    shares = {
        name: [share for episode in played if (share := profile.share(episode)) is not None]
        for name, played in episodes.items()
    }
    means = {name: statistics.fmean(known) for name, known in shares.items() if known}
    if not means:
        return not_applicable("the environment returns no scores; its graders judge the episodes, so audit them")
    best = max(means, key=lambda name: means[name])
    message = ", ".join(f"{name} {100 * mean:.0f}%" for name, mean in sorted(means.items(), key=lambda pair: -pair[1]))
    paid = sorted(episodes[best], key=lambda episode: -(profile.share(episode) or 0.0))
    message = f"mean of the best score: {message}"
    if means[best] > FAIL_ABOVE:
        return failed(message, paid, **means)
    return warned(message, paid, **means) if means[best] > warn_above else passed(message, **means)


PROBES = (
    Probe(
        name="no effort",
        family="free reward",
        why="Training finds the cheapest reward: a policy that earns by doing nothing stops trying.",
        how="One episode of each task with policies that are idle, empty, constant or overlong, or repeat what they "
        "hear.",
        threshold="fails if one of them earns more than half of the best score on average; warns above a tenth",
        remedy="Give no reward for taking part, for staying alive, or at a limit.",
        run=effortless,
    ),
    Probe(
        name="random play",
        family="free reward",
        why="This is what a trained policy must exceed. If chance earns most of the reward, little is left to learn.",
        how="One episode of each task with policies that say words and numbers that they have heard.",
        threshold="fails if one of them earns more than half of the best score on average; warns above a quarter",
        remedy="Make the tasks harder, allow fewer attempts, or subtract what chance earns.",
        run=at_random,
    ),
)
