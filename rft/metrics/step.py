"""Metrics of graded groups, and the time by phase. Pure; standard library only."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence

from rft.turns import Author, calls_of
from rft.types import GradedGroup, Rollout, StopReason


class Stopwatch:
    """Seconds by phase, from lap to lap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def lap(self, phase: str) -> None:
        """End a phase, or a part of it. The time runs from the previous lap."""
        now = time.monotonic()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now


def step_metrics(groups: Sequence[GradedGroup]) -> dict[str, float]:
    """Describe the groups of a step.

    Returns:
        `reward/mean` and `reward/std` over completions with a reward, `score/<grader>` means over scored completions,
        `completion/tokens_mean`, `completion/truncated_share`, `groups/informative_share` (groups with different
        rewards; other groups teach nothing) and `rollouts/dropped_share`. For each family of a mixture:
        `family_reward/<family>`, `family_informative_share/<family>` and `family_groups/<family>`, their number.
        Metrics without a value are absent.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    grades = [grade for group in groups for grade in group.grades]
    rewards = [grade.reward for grade in grades if grade.reward is not None]
    metrics = {
        "completion/tokens_mean": statistics.fmean(len(rollout.completion_ids) for rollout in rollouts),
        "completion/truncated_share": _share(rollout.stop is StopReason.LENGTH for rollout in rollouts),
        "groups/informative_share": _share(group.is_informative for group in groups),
        "rollouts/dropped_share": _share(grade.reward is None for grade in grades),
    }
    if any(rollout.turns for rollout in rollouts):
        metrics |= _episode_metrics(rollouts)
    if rewards:
        metrics |= {"reward/mean": statistics.fmean(rewards), "reward/std": statistics.pstdev(rewards)}
    for name in {name: None for grade in grades for name in grade.scores}:
        values = [grade.scores[name].value for grade in grades if name in grade.scores]
        known = [value for value in values if value is not None]
        if known:
            metrics[f"score/{name}"] = statistics.fmean(known)
    return metrics | _family_metrics(groups)


def _episode_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Return `episode/turns_mean` of the policy, `episode/sampled_share` of the tokens, the shares of the ends, and
    `episode/calls_mean` of tools if there are any.
    """
    num_calls = [len(calls_of(rollout.turns)) for rollout in rollouts]
    num_turns = [sum(turn.author is Author.POLICY for turn in rollout.turns) for rollout in rollouts]
    num_tokens = sum(len(rollout.completion_ids) for rollout in rollouts)
    return {
        "episode/turns_mean": statistics.fmean(num_turns),
        "episode/sampled_share": sum(sum(rollout.trained) for rollout in rollouts) / num_tokens,
        "episode/failed_share": _share(rollout.stop in (StopReason.ABORT, StopReason.FORK) for rollout in rollouts),
        "episode/limited_share": _share(
            rollout.stop in (StopReason.TURNS, StopReason.CONTEXT, StopReason.LENGTH) for rollout in rollouts
        ),
        "episode/forked_share": _share(rollout.stop is StopReason.FORK for rollout in rollouts),
    } | ({"episode/calls_mean": statistics.fmean(num_calls)} if any(num_calls) else {})


def _family_metrics(groups: Sequence[GradedGroup]) -> dict[str, float]:
    """Return the metrics of each family; none without a mixture."""
    metrics: dict[str, float] = {}
    for name in dict.fromkeys(group.task.family for group in groups if group.task.family):
        of_family = [group for group in groups if group.task.family == name]
        rewards = [reward for group in of_family for reward in group.rewards if reward is not None]
        if rewards:
            metrics[f"family_reward/{name}"] = statistics.fmean(rewards)
        metrics[f"family_informative_share/{name}"] = _share(group.is_informative for group in of_family)
        metrics[f"family_groups/{name}"] = float(len(of_family))
    return metrics


def staleness_metrics(groups: Sequence[GradedGroup], *, newest_version: int) -> dict[str, float]:
    """Return the distance in versions between the sampling policies and the newest policy.

    Returns:
        `policy/staleness_mean` and `policy/staleness_max`, over completions.
    """
    behind = [newest_version - rollout.policy.version for group in groups for rollout in group.rollouts]
    return {"policy/staleness_mean": statistics.fmean(behind), "policy/staleness_max": float(max(behind))}


def _share(flags: Iterable[bool]) -> float:
    return statistics.fmean(map(float, flags))
