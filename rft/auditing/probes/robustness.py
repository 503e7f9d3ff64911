"""Input that is malformed, and results that are no scores."""

from __future__ import annotations

from collections import Counter

from rft.auditing.cases import Case, Graded
from rft.auditing.findings import Finding, failed, passed, warned
from rft.auditing.probe import Probe
from rft.auditing.subject import Subject, without_value
from rft.types import Status

NONSENSE = "returned "
"""How the reason begins where a grader returned what is no score (`rft.grading.normalise`)."""


async def malformed_output(subject: Subject) -> Finding:
    """Completions that no parser likes are graded like any other wrong answer."""
    cases = []
    for task in subject.tasks[:3]:
        texts = {
            "a lone surrogate": "\ud800",
            "a NUL": "\x00",
            "invalid JSON": '{"answer": ',
            "JSON 10,000 levels deep": "[" * 10_000 + "]" * 10_000,
            "unclosed tags and braces": "<answer>\\boxed{\\frac{1}{",
            "a terminal's codes": "\x1b[2J\x1b]0;x\x07",
            "a number beyond floats": "1e999999",
            "digits of another script": "\u0664\u0662\u00bd\u2167",
        }
        cases += [Case(task=task, completion=text, note=note) for note, text in texts.items()]
        cases += [subject.case(task, text, f"{note}, in the grader's format") for note, text in texts.items()]
    graded = await subject.bench.grade(cases)
    paid, faults = subject.paid(graded, above=subject.fail_above), without_value(graded)
    figures = {"cases": len(graded), "paid": len(paid), "grader_faults": len(faults)}
    if paid and subject.right:
        return failed(f"{len(paid)} of {len(graded)} malformed completions are paid", paid, **figures)
    if faults:
        said = (
            f"on {len(faults)} of {len(graded)} malformed completions the grader fails: they get no reward at all, "
            "where a wrong answer gets the least, so the model does not learn from them"
        )
        return warned(said, _one_of_each(faults), **figures)
    return passed(f"{len(graded)} malformed completions are graded, and none is paid", **figures)


async def only_scores_come_back(subject: Subject) -> Finding:
    """Of all that was graded in this audit, nothing came back that is no finite number, and little failed."""
    seen = subject.bench.seen
    nonsense = [
        one
        for one in seen
        if any(
            score.status is Status.GRADER_ERROR and (score.reason or "").startswith(NONSENSE)
            for score in one.grade.scores.values()
        )
    ]
    statuses = Counter(str(score.status) for one in seen for score in one.grade.scores.values())
    ordinary = [*subject.right, *subject.wrong]
    faults = without_value(ordinary)
    figures = {"graded": len(seen), "statuses": dict(statuses), "nonsense": len(nonsense)}
    if nonsense:
        return failed(f"{len(nonsense)} of {len(seen)} results are no scores", _one_of_each(nonsense), **figures)
    if faults:
        said = f"the grader fails on {len(faults)} of {len(ordinary)} ordinary answers"
        return failed(said, _one_of_each(faults), **figures)
    return passed(f"all {len(seen)} results are finite numbers within the range, or say why not", **figures)


def _one_of_each(graded: list[Graded]) -> list[Graded]:
    """One case a reason, the first."""
    first: dict[str, Graded] = {}
    for one in graded:
        reasons = (score.reason or "" for score in one.grade.scores.values() if score.status.is_grader_fault)
        first.setdefault(next(reasons, "")[:40], one)
    return list(first.values())


PROBES = (
    Probe(
        name="malformed completions",
        family="robustness",
        why="Whatever a tokenizer can spell will be sampled. A grader that raises on it takes the penalty from "
        "the worst completions.",
        how="A lone surrogate, NUL, JSON 10,000 levels deep, broken LaTeX, numbers beyond floats; bare and in the "
        "grader's format.",
        threshold="fails if any earns more than 10% of full marks (half, where partial credit is given); warns if the "
        "grader fails on any",
        remedy="Return Score(value=0.0, status=Status.INVALID_OUTPUT) for what cannot be read.",
        look=malformed_output,
    ),
    Probe(
        name="finite scores",
        family="robustness",
        why="NaN, infinity, None, text or a list of the wrong length poisons a whole batch elsewhere; here it is no "
        "reward, and the completion is lost.",
        how="All results of this audit, as the panel made scores of them.",
        threshold="fails if any result is no score, or the grader fails on an ordinary answer",
        remedy="Return a finite number on every path; None only to decline.",
        look=only_scores_come_back,
    ),
)
