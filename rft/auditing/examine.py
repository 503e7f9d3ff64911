"""All probes, one after the other, over one subject."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rft.auditing.answers import as_text, prompt_text
from rft.auditing.bench import GivenUp
from rft.auditing.cases import Graded
from rft.auditing.findings import MAX_EXAMPLES, Finding, Result, excerpt, failed, not_applicable
from rft.auditing.probe import Probe
from rft.auditing.probes import PROBES
from rft.auditing.subject import Subject

ORDER = (Result.FAILED, Result.WARNED, Result.PASSED, Result.NOT_APPLICABLE)
"""What is told first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A probe and what it found.

    Example:
        Looked(probe=Probe(...), finding=Finding(...), seconds=0.4)
    """

    probe: Probe
    """The question."""
    finding: Finding
    """The answer."""
    seconds: float
    """How long it took."""


async def examine(
    subject: Subject, *, probes: Sequence[Probe] = PROBES, starting: Callable[[str], None] = lambda name: None
) -> list[Looked]:
    """Calibrate, and put every probe's question.

    Args:
        subject: Graders and tasks.
        probes: The questions.
        starting: Called with the name of each probe before it starts.

    Returns:
        What each found; failures first, then warnings, each in the order of the probes. Once the graders miss too many
        deadlines, the probe at hand fails, and the others are not applicable.
    """
    looked: list[Looked] = []
    given_up = ""
    try:
        starting("formats and ranges")
        await subject.calibrate()
    except GivenUp as error:
        given_up = str(error)
    for probe in probes:
        starting(probe.name)
        started = time.monotonic()
        if given_up:
            already = any(one.finding.result is Result.FAILED for one in looked)
            finding = not_applicable(f"given up: {given_up}") if already else _too_slow(subject, given_up)
        else:
            try:
                finding = await probe.look(subject)
            except GivenUp as error:
                given_up = str(error)
                finding = _too_slow(subject, given_up)
        looked.append(Looked(probe=probe, finding=finding, seconds=time.monotonic() - started))
    return sorted(looked, key=lambda one: ORDER.index(one.finding.result))


def verdict(looked: Sequence[Looked]) -> str:
    """`failed` as soon as one probe failed, or else `passed`."""
    return "failed" if any(one.finding.result is Result.FAILED for one in looked) else "passed"


def as_object(subject: Subject, looked: Sequence[Looked], *, tasks: str, seconds: float) -> dict[str, Any]:
    """What audit.json says.

    Args:
        subject: What was audited.
        looked: What was found.
        tasks: Where the tasks are from.
        seconds: How long it took.
    """
    counts = {str(result): sum(one.finding.result is result for one in looked) for result in ORDER}
    return {
        "verdict": verdict(looked),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "tasks": {"source": tasks, "count": len(subject.tasks), "with_reference": len(subject.solved)},
        "gold": subject.gold,
        "format": subject.format if subject.right else None,
        "graded": len(subject.bench.seen),
        "graders": {
            grader.name: {
                "use": grader.use,
                "weight": grader.weight,
                "sha256": grader.sha256,
                "range": subject.ranges.get(grader.name),
                "is_style": grader.name in subject.style,
                "timeout_s": grader.timeout_s,
            }
            for grader in subject.bench.declared
        },
        "counts": counts,
        "probes": [
            {
                "name": one.probe.name,
                "family": one.probe.family,
                "result": str(one.finding.result),
                "said": one.finding.said,
                "why": one.probe.why,
                "how": one.probe.how,
                "threshold": one.probe.threshold,
                "remedy": one.probe.remedy,
                "figures": dict(one.finding.figures),
                "examples": [_example(subject, graded) for graded in _shown(one.finding.examples)],
                "num_examples": len(one.finding.examples),
                "seconds": one.seconds,
            }
            for one in looked
        ],
    }


def _shown(examples: Sequence[Graded]) -> list[Graded]:
    """The first examples, other texts before the same text again."""
    seen = {one.case.completion: one for one in reversed(examples)}
    first = [one for one in examples if seen[one.case.completion] is one]
    return [*first, *(one for one in examples if seen[one.case.completion] is not one)][:MAX_EXAMPLES]


def _example(subject: Subject, graded: Graded) -> dict[str, Any]:
    task, reference = graded.case.task, graded.case.task.item.get(subject.gold)
    return {
        "task": task.id,
        "prompt": excerpt(prompt_text(task)),
        "reference": None if reference is None else excerpt(as_text(reference)),
        "completion": excerpt(graded.case.completion),
        "num_characters": len(graded.case.completion),
        "note": graded.case.note,
        "reward": graded.grade.reward,
        "share": subject.share(graded),
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


def _too_slow(subject: Subject, why: str) -> Finding:
    late = [one for one in subject.bench.seen if one.grade.reward is None]
    return failed(f"{why}; a grader that is slow on ordinary answers cannot be audited, nor trained with", late)
