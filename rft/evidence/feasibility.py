"""Whether a run is worth starting, computed from graded samples of training tasks: the content of feasibility.json."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import Any

from rft.config import RunConfig
from rft.config.mixture import graders_by_family
from rft.evidence.feasibility_plan import Planned, Timing, plan_of
from rft.evidence.feasibility_verdict import GO, Reason, verdict_of
from rft.metrics.drops import count_drops
from rft.metrics.held_out import metric_bounds, metric_values
from rft.metrics.informative import between_tasks, equal_counts, informative_share, predicted_share
from rft.metrics.intervals import ROUNDING, Estimate, estimate
from rft.metrics.power import smallest_difference, tasks_needed
from rft.metrics.significance import pass_at_k
from rft.types import GradedGroup, StopReason
from rft.wording import plural

HALF = 0.5
"""Share of informative groups to which `half_at` refers."""


def feasibility_of(
    groups: Sequence[GradedGroup], *, run: RunConfig, planned: Planned, timing: Timing
) -> dict[str, Any] | None:
    """Return the content of feasibility.json; None if no completion has a reward.

    Completions without a reward are left out and counted; they are never 0.

    Args:
        groups: Graded samples of training tasks, under the policy that the run starts from.
        run: The configuration of the run.
        planned: What it will do.
        timing: Measured times.
    """
    rewards = {group.task.id: metric_values(group, "reward") for group in groups}
    graded = {task: values for task, values in rewards.items() if values}
    if not graded:
        return None
    bounds = metric_bounds(run.graders, "reward", graders_by_family(run.data))
    report: dict[str, Any] = {
        "sampled": _sampled(groups, graded),
        "reward": estimate([fmean(values) for values in graded.values()], bounds=bounds).to_json(),
        "reward_range": list(bounds),
        "pass_at": _pass_at(graded, highest=bounds[1]),
        "informative": _informative(graded, run, planned),
        "held_out": _held_out(groups, run, planned),
    }
    share = (report["informative"] or {}).get("share", {}).get("mean")
    report["plan"] = plan_of(run, planned, timing, report["sampled"], informative=share)
    verdict, reasons = verdict_of(report, run)
    return {
        "verdict": verdict,
        "text": _text(verdict, reasons, report),
        "reasons": [reason.to_json() for reason in reasons],
        **report,
        "pass_rates": {task: fmean(values) for task, values in graded.items()},
    }


def _sampled(groups: Sequence[GradedGroup], graded: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Describe the samples: their numbers, lengths, and those without a reward by cause."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return {
        "tasks": len(groups),
        "completions_per_task": max(len(group.rollouts) for group in groups),
        "completions": len(rollouts),
        "without_reward": count_drops(groups),
        "tasks_without_reward": len(groups) - len(graded),
        "cut_share": fmean(float(rollout.stop is StopReason.LENGTH) for rollout in rollouts),
        "prompt_tokens_mean": fmean(len(rollout.prompt_ids) for rollout in rollouts),
        "completion_tokens_mean": fmean(len(rollout.completion_ids) for rollout in rollouts),
        "policy": groups[0].rollouts[0].policy.fingerprint if groups[0].rollouts else None,
    }


def _pass_at(graded: Mapping[str, Sequence[float]], *, highest: float) -> dict[str, Any] | None:
    """Return pass@k for powers of 2, where a completion passes with the highest possible reward; None if none does and
    there are other rewards than two.
    """
    passed = {task: [value >= highest - ROUNDING for value in values] for task, values in graded.items()}
    different = {value for values in graded.values() for value in values}
    if len(different) > 2 and not any(any(values) for values in passed.values()):
        return None
    fewest = min(map(len, passed.values()))
    sizes = itertools.takewhile(lambda k: k <= fewest, (2**power for power in itertools.count()))
    return {
        str(k): estimate([pass_at_k(len(values), sum(values), k) for values in passed.values()]).to_json()
        for k in sizes
    }


def _informative(graded: Mapping[str, Sequence[float]], run: RunConfig, planned: Planned) -> dict[str, Any] | None:
    """Return the share of informative groups, by group size; None for groups of one completion."""
    group_size = run.loop.completions_per_prompt
    counts = {task: equal_counts(values) for task, values in graded.items() if len(values) > 1}
    if group_size < 2 or not counts:
        return None
    most = max(sum(of_task) for of_task in counts.values())
    by_size = {size: _shares(counts, size) for size in range(2, most + 1)}
    shares = by_size[min(group_size, most)]
    means = {size: fmean(of_size.values()) for size, of_size in by_size.items()}
    between = between_tasks(list(counts.values()), group_size)
    low, high = predicted_share(shares, planned.visits, between=between)
    return {
        "group_size": group_size,
        "share": estimate(list(shares.values())).to_json(),
        "tasks_left_out": len(graded) - len(counts),
        "by_group_size": {str(size): mean for size, mean in means.items()},
        "half_at": next((size for size, mean in means.items() if mean >= HALF), None),
        "never_differing_tasks": sum(len(of_task) == 1 for of_task in counts.values()),
        "predicted": {"groups": sum(planned.visits.values()), "low": low, "high": high},
    }


def _shares(counts: Mapping[str, Sequence[int]], size: int) -> dict[str, float]:
    """Return each task's share of informative groups. A task with fewer graded samples has smaller groups, as in a run,
    which drops completions without a reward.
    """
    return {task: informative_share(of_task, min(size, sum(of_task))) for task, of_task in counts.items()}


def _held_out(groups: Sequence[GradedGroup], run: RunConfig, planned: Planned) -> dict[str, Any]:
    """Return the smallest difference that the held-out tasks can show, in the metric of the evaluation."""
    how = run.evaluation
    low, high = metric_bounds(run.graders, how.metric, graders_by_family(run.data))
    several = [values for group in groups if len(values := metric_values(group, how.metric)) > 1]
    wanted = run.feasibility.min_difference * (high - low)
    result: dict[str, Any] = {
        "tasks": planned.num_held_out,
        "completions_per_task": how.completions_per_task,
        "metric": how.metric,
        "wanted_difference": wanted,
        "smallest_difference": None,
        "tasks_needed": None,
    }
    if not several or high <= low:
        return result
    noise = 2 * fmean(map(variance, several)) / how.completions_per_task
    result["tasks_needed"] = tasks_needed(wanted, noise=noise, width=high - low)
    if planned.num_held_out:
        result["smallest_difference"] = smallest_difference(planned.num_held_out, noise=noise, width=high - low)
    return result


def _text(verdict: str, reasons: Sequence[Reason], report: Mapping[str, Any]) -> str:
    """Return the result in one line."""
    sampled, informative = report["sampled"], report["informative"]
    found = f"reward {Estimate.from_json(report['reward']).text()}"
    if informative:
        share = Estimate.from_json(informative["share"]).text()
        found = f"informative groups of {informative['group_size']}: {share}; {found}"
    of = f"{plural(sampled['tasks'], 'training task')} with {plural(sampled['completions_per_task'], 'sample')} each"
    why = f" ({reasons[0].text})" if verdict != GO and reasons else ""
    return f"{verdict}{why}; {found}; {of}"
