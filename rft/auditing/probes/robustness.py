"""Probes with malformed completions, and a check of all results of the audit."""

from __future__ import annotations

from collections import Counter

from rft.auditing.cases import Case
from rft.auditing.findings import Finding, failed, passed, warned
from rft.auditing.grader_profile import GraderProfile, first_per_reason, without_value
from rft.auditing.probe import Probe
from rft.types import Status

NONSENSE = "returned "
"""Beginning of the reason of a result that is not a score (`rft.grading.normalise`)."""


async def malformed_completions(profile: GraderProfile) -> Finding:
    """Check that malformed completions are graded as wrong answers."""
    cases = []
    for task in profile.tasks[:3]:
        texts = {
            "a lone surrogate": "\ud800",
            "a NUL": "\x00",
            "invalid JSON": '{"answer": ',
            "JSON 10,000 levels deep": "[" * 10_000 + "]" * 10_000,
            "unclosed tags and braces": "<answer>\\boxed{\\frac{1}{",
            "terminal control codes": "\x1b[2J\x1b]0;x\x07",
            "a number beyond floats": "1e999999",
            "digits of another script": "\u0664\u0662\u00bd\u2167",
        }
        cases += [Case(task=task, completion=text, note=note) for note, text in texts.items()]
        cases += [profile.case(task, text, f"{note}, in the grader's format") for note, text in texts.items()]
    graded = await profile.panel.grade(cases)
    paid, faults = profile.paid(graded, above=profile.fail_above), without_value(graded)
    figures = {"cases": len(graded), "paid": len(paid), "grader_faults": len(faults)}
    if paid and profile.right:
        return failed(f"{len(paid)} of {len(graded)} malformed completions are paid", paid, **figures)
    if faults:
        message = (
            f"the grader fails on {len(faults)} of {len(graded)} malformed completions: they get no reward instead of "
            "the lowest one, so the model does not learn to avoid them"
        )
        return warned(message, first_per_reason(faults), **figures)
    return passed(f"the grader grades all {len(graded)} malformed completions and pays none", **figures)


async def finite_scores(profile: GraderProfile) -> Finding:
    """Check that all results of the audit are finite numbers, and that no ordinary answer failed."""
    seen = profile.panel.seen
    nonsense = [
        result
        for result in seen
        if any(
            score.status is Status.GRADER_ERROR and (score.reason or "").startswith(NONSENSE)
            for score in result.grade.scores.values()
        )
    ]
    statuses = Counter(str(score.status) for result in seen for score in result.grade.scores.values())
    ordinary = [*profile.right, *profile.wrong]
    faults = without_value(ordinary)
    figures = {"graded": len(seen), "statuses": dict(statuses), "nonsense": len(nonsense)}
    if nonsense:
        return failed(f"{len(nonsense)} of {len(seen)} results are not scores", first_per_reason(nonsense), **figures)
    if faults:
        message = f"the grader fails on {len(faults)} of {len(ordinary)} ordinary answers"
        return failed(message, first_per_reason(faults), **figures)
    return passed(f"all {len(seen)} results are finite numbers within the range, or have a reason", **figures)


PROBES = (
    Probe(
        name="malformed completions",
        family="robustness",
        why="A policy samples any text that its tokenizer can produce. If a grader raises on malformed text, the worst "
        "completions escape their penalty.",
        how="A lone surrogate, NUL, JSON nested 10,000 levels deep, broken LaTeX and numbers beyond floats, bare and "
        "in the grader's format.",
        threshold="fails if any earns more than 10% of full marks (50% if the grader gives partial credit); warns if "
        "the grader fails on any",
        remedy="Return Score(value=0.0, status=Status.INVALID_OUTPUT) for unreadable text.",
        run=malformed_completions,
    ),
    Probe(
        name="finite scores",
        family="robustness",
        why="In other systems NaN, infinity, None, a text or a list of the wrong length corrupts a whole batch. In rft "
        "the completion gets no reward and is lost.",
        how="All results of this audit.",
        threshold="fails if any result is not a score, or if the grader fails on an ordinary answer",
        remedy="Return a finite number on every path, and None only to decline.",
        run=finite_scores,
    ),
)
