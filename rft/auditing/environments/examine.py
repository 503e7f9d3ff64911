"""Runs all probes on one environment, and builds the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rft.auditing.environments.episodes import Episode, TooSlow
from rft.auditing.environments.probes import PROBES
from rft.auditing.environments.profile import EnvironmentProfile
from rft.auditing.examine import ORDER, ProbeOutcome, outcome_entry, report_head
from rft.auditing.findings import EXCERPT_CHARS, MAX_EXAMPLES, excerpt, failed, not_applicable
from rft.auditing.probe import Probe

MAX_TURNS = 4
"""Turns of an episode that a report shows."""


async def examine_environment(
    profile: EnvironmentProfile,
    *,
    probes: Sequence[Probe[EnvironmentProfile]] = PROBES,
    starting: Callable[[str], None] = lambda name: None,
) -> list[ProbeOutcome]:
    """Play the ordinary episodes and run the probes.

    Args:
        profile: The environment and its tasks.
        probes: The probes, in order.
        starting: Called with the name of each probe before it starts.

    Returns:
        The findings: failures first, then warnings, each in the order of the probes. When too many episodes run out of
        time, the current probe fails, and the remaining probes are not applicable.
    """
    outcomes: list[ProbeOutcome] = []
    abandoned = ""
    try:
        starting("ordinary episodes")
        await profile.explore()
    except TooSlow as error:
        abandoned = str(error)
    for probe in probes:
        starting(probe.name)
        started = time.monotonic()
        if abandoned:
            finding = not_applicable("the audit was abandoned") if outcomes else failed(abandoned)
        else:
            try:
                finding = await probe.run(profile)
            except TooSlow as error:
                abandoned = str(error)
                finding = failed(abandoned)
        outcomes.append(ProbeOutcome(probe=probe, finding=finding, seconds=time.monotonic() - started))
    return sorted(outcomes, key=lambda outcome: ORDER.index(outcome.finding.result))


def environment_report(
    profile: EnvironmentProfile,
    outcomes: Sequence[ProbeOutcome],
    *,
    environment: dict[str, Any],
    tasks: str,
    episodes: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the content of audit.json.

    Args:
        profile: The environment and its tasks.
        outcomes: The findings of all probes.
        environment: The environment's name, style and hash.
        tasks: The source of the tasks.
        episodes: Number of episodes that were played.
        seconds: Duration of the audit.
    """
    with_reference = sum(profile.reference(task) is not None for task in profile.tasks)
    return report_head(outcomes, seconds=seconds) | {
        "tasks": {"source": tasks, "count": len(profile.tasks), "with_reference": with_reference},
        "gold": profile.gold,
        "environment": environment,
        "episodes": episodes,
        "probes": [outcome_entry(outcome, _examples(outcome.finding.examples)) for outcome in outcomes],
    }


def _examples(episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """Return the first episodes; others of the same task and policy follow all different ones."""
    first = {(episode.task.id, episode.policy): episode for episode in reversed(episodes)}
    kept = [episode for episode in episodes if first[episode.task.id, episode.policy] is episode]
    return [_example(episode) for episode in kept[:MAX_EXAMPLES]]


def _example(episode: Episode) -> dict[str, Any]:
    turns = []
    for turn, reply in list(enumerate(episode.replies))[:MAX_TURNS]:
        heard = "\n".join(str(message["content"]) for message in episode.heard[turn])
        turns.append({"heard": excerpt(heard), "reply": excerpt(reply.text)})
    return {
        "task": episode.task.id,
        "prompt": "\n".join(excerpt(str(message["content"])) for message in episode.task.messages),
        "policy": episode.policy,
        "turns": turns,
        "num_turns": len(episode.replies),
        "score": episode.score.value,
        "status": str(episode.score.status),
        "reason": None if episode.score.reason is None else episode.score.reason[:EXCERPT_CHARS],
    }
