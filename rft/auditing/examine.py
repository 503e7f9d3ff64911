"""Runs all probes on one set of graders and tasks, and builds the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rft.auditing.answers import as_text, prompt_text
from rft.auditing.audit_panel import TooManyTimeouts
from rft.auditing.cases import GradedCase
from rft.auditing.findings import MAX_EXAMPLES, Finding, Result, excerpt, failed, inconclusive, not_applicable
from rft.auditing.grader_profile import GraderProfile, first_per_reason, without_value
from rft.auditing.probe import Probe
from rft.auditing.probes import PROBES
from rft.grading.verdicts import FAILED, INCONCLUSIVE, PASSED

ORDER = (Result.FAILED, Result.WARNED, Result.INCONCLUSIVE, Result.PASSED, Result.NOT_APPLICABLE)
"""The order of the results in a report."""
NEARLY_ALL = 0.9
"""A probe is inconclusive if the graders fail on at least this share of its cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutcome:
    """A probe with its finding.

    Example:
        ProbeOutcome(probe=Probe(...), finding=Finding(...), seconds=0.4)
    """

    probe: Probe[Any]
    """The probe."""
    finding: Finding
    """The finding."""
    seconds: float
    """Duration of the probe."""


async def examine(
    profile: GraderProfile,
    *,
    probes: Sequence[Probe[GraderProfile]] = PROBES,
    starting: Callable[[str], None] = lambda name: None,
) -> list[ProbeOutcome]:
    """Calibrate the profile and run the probes.

    Args:
        profile: The graders and tasks.
        probes: The probes, in order.
        starting: Called with the name of each probe before it starts.

    Returns:
        The findings: failures first, then warnings, each in the order of the probes. When the graders miss too many
        deadlines, the current probe fails, and the remaining probes are not applicable.
    """
    outcomes: list[ProbeOutcome] = []
    abandoned = ""
    try:
        starting("formats and ranges")
        await profile.calibrate()
    except TooManyTimeouts as error:
        abandoned = str(error)
    for probe in probes:
        starting(probe.name)
        started = time.monotonic()
        if abandoned:
            already = any(outcome.finding.result is Result.FAILED for outcome in outcomes)
            finding = (
                not_applicable(f"the audit was abandoned: {abandoned}") if already else _too_slow(profile, abandoned)
            )
        else:
            profile.panel.of_probe.clear()
            try:
                finding = _unless_vacuous(profile, await probe.run(profile))
            except TooManyTimeouts as error:
                abandoned = str(error)
                finding = _too_slow(profile, abandoned)
        outcomes.append(ProbeOutcome(probe=probe, finding=finding, seconds=time.monotonic() - started))
    return sorted(outcomes, key=lambda outcome: ORDER.index(outcome.finding.result))


def verdict(outcomes: Sequence[ProbeOutcome]) -> str:
    """Return `failed` if any probe failed, otherwise `inconclusive` if any is inconclusive, otherwise `passed`."""
    results = {outcome.finding.result for outcome in outcomes}
    return FAILED if Result.FAILED in results else INCONCLUSIVE if Result.INCONCLUSIVE in results else PASSED


def build_report(
    profile: GraderProfile, outcomes: Sequence[ProbeOutcome], *, tasks: str, seconds: float
) -> dict[str, Any]:
    """Return the content of audit.json.

    Args:
        profile: The graders and tasks.
        outcomes: The findings of all probes.
        tasks: The source of the tasks.
        seconds: Duration of the audit.
    """
    return report_head(outcomes, seconds=seconds) | {
        "tasks": {"source": tasks, "count": len(profile.tasks), "with_reference": len(profile.solved)},
        "gold": profile.gold,
        "format": profile.format if profile.right else None,
        "graded": len(profile.panel.seen),
        "graders": {
            grader.name: {
                "use": grader.use,
                "weight": grader.weight,
                "sha256": grader.sha256,
                "range": profile.ranges.get(grader.name),
                "is_style": grader.name in profile.style,
                "timeout_s": grader.timeout_s,
            }
            for grader in profile.panel.declared
        },
        "probes": [
            outcome_entry(outcome, [_example(profile, graded) for graded in _shown(outcome.finding.examples)])
            for outcome in outcomes
        ],
    }


def report_head(outcomes: Sequence[ProbeOutcome], *, seconds: float) -> dict[str, Any]:
    """Return what the reports of all audits begin with."""
    return {
        "verdict": verdict(outcomes),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "counts": {str(result): sum(outcome.finding.result is result for outcome in outcomes) for result in ORDER},
    }


def outcome_entry(outcome: ProbeOutcome, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the entry of a probe in a report, with these examples."""
    return {
        "name": outcome.probe.name,
        "family": outcome.probe.family,
        "result": str(outcome.finding.result),
        "message": outcome.finding.message,
        "why": outcome.probe.why,
        "how": outcome.probe.how,
        "threshold": outcome.probe.threshold,
        "remedy": outcome.probe.remedy,
        "figures": dict(outcome.finding.figures),
        "examples": list(examples),
        "num_examples": len(outcome.finding.examples),
        "seconds": outcome.seconds,
    }


def _shown(examples: Sequence[GradedCase]) -> list[GradedCase]:
    """Return the first examples; a repeated text follows all different texts."""
    seen = {result.case.completion: result for result in reversed(examples)}
    first = [result for result in examples if seen[result.case.completion] is result]
    return [*first, *(result for result in examples if seen[result.case.completion] is not result)][:MAX_EXAMPLES]


def _example(profile: GraderProfile, graded: GradedCase) -> dict[str, Any]:
    task, reference = graded.case.task, graded.case.task.item.get(profile.gold)
    return {
        "task": task.id,
        "prompt": excerpt(prompt_text(task)),
        "reference": None if reference is None else excerpt(as_text(reference)),
        "completion": excerpt(graded.case.completion),
        "num_characters": len(graded.case.completion),
        "note": graded.case.note,
        "reward": graded.grade.reward,
        "share": profile.share(graded),
        "scores": {
            name: {
                "value": score.value,
                "status": str(score.status),
                "reason": None if score.reason is None else excerpt(score.reason),
                "answer": None if score.answer is None else excerpt(score.answer),
            }
            for name, score in graded.grade.scores.items()
        },
    }


def _unless_vacuous(profile: GraderProfile, finding: Finding) -> Finding:
    """Return the finding; an inconclusive one if the probe passed only because the graders failed on its cases."""
    graded = profile.panel.of_probe
    faults = [result for result in without_value(graded) if result.grade.reward is None]
    if finding.result is not Result.PASSED or len(faults) < max(1, NEARLY_ALL * len(graded)):
        return finding
    reasons = (score.reason for score in faults[0].grade.scores.values() if score.status.is_grader_fault)
    return inconclusive(
        f"the grader failed on {len(faults)} of {len(graded)} completions of this probe, which therefore shows "
        f"nothing: {excerpt(next(reasons) or 'without a reason', 120)}",
        first_per_reason(faults),
        cases=len(graded),
        grader_faults=len(faults),
    )


def _too_slow(profile: GraderProfile, why: str) -> Finding:
    late = [result for result in profile.panel.seen if result.grade.reward is None]
    return failed(f"{why}; a grader this slow on ordinary answers can neither be audited nor used for training", late)
