"""What grading costs: on what a policy finds to make it cost more, and on ordinary answers."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from rft.auditing.bench import asks_a_service
from rft.auditing.cases import Case, Graded
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.probe import Probe
from rft.auditing.subject import Subject
from rft.grading.report import percentiles
from rft.types import Status

STALL_S = 0.5
"""An event loop that is held for longer stalls sampling too."""
BEAT_S = 0.02
SLOW_STEP_S = 60.0
MAX_MEASURED = 256

BOMBS = {
    "a tower of powers": "9^9^9^9",
    "a tower of powers in Python": "9**9**9**9",
    "a factorial": "(10^8)!",
    "a factorial of a factorial": "((9!)!)!",
    "for (a+)+$": "a" * 5_000 + "!",
    "for nested spaces": " " * 20_000 + "x",
    "200,000 digits": "7" * 200_000,
    "nested braces": "\\boxed{" * 5_000 + "1" + "}" * 5_000,
    "nested parentheses": "(" * 20_000 + "1" + ")" * 20_000,
    "nested fractions": "\\frac{1}{" * 500 + "2" + "}" * 500,
    "an equation without end": "x" + "".join(f"+x^{{{power}}}" for power in range(2, 60)) + "=0",
    "half a million tags": "<think></think>" * 33_000,
}
"""Short to write, long to grade."""


async def bombs_cost_one_deadline(subject: Subject) -> Finding:
    """Nothing that a model can write keeps a grader busy."""
    task = (subject.solved or list(subject.tasks))[0]
    cases = [Case(task=task, completion=text, note=note) for note, text in BOMBS.items()]
    cases += [subject.case(task, text, f"{note}, in the grader's format") for note, text in BOMBS.items()]
    started = time.monotonic()
    graded, stall_s = await _watched(subject, cases)
    wall_s = time.monotonic() - started
    late = [one for one in graded if any(score.status is Status.TIMEOUT for score in one.grade.scores.values())]
    held = [
        one
        for one in graded
        for grader in subject.bench.declared
        if grader.in_process and one.grade.scores[grader.name].seconds > STALL_S and not asks_a_service(grader)
    ]
    figures = {"wall_s": wall_s, "late": len(late), "longest_stall_s": stall_s}
    if held or stall_s > STALL_S:
        said = (
            f"grading held the event loop for up to {max([stall_s, *map(_seconds, held)]):.1f} s, and sampling with it"
        )
        return failed(said, held or graded[:1], **figures)
    if late:
        said = (
            f"{len(late)} of {len(graded)} cost bombs run into the deadline: each holds a worker for so long, and gets"
        )
        return failed(f"{said} no reward, so that the model is not taught to stop", late, **figures)
    slowest = max(graded, key=_seconds)
    limit = min(grader.timeout_s for grader in subject.bench.graders)
    if _seconds(slowest) > limit / 4:
        return warned(f"the slowest cost bomb takes {_seconds(slowest):.1f} s", [slowest], **figures)
    return passed(f"the slowest of {len(graded)} cost bombs takes {_seconds(slowest):.2f} s", **figures)


async def grading_is_quick(subject: Subject) -> Finding:
    """Latency of ordinary answers, and how long a step's grading will take."""
    some = [*subject.right, *subject.wrong] or subject.bench.seen[:30]
    if not some:
        return not_applicable("nothing was graded")
    count = min(MAX_MEASURED, subject.completions_per_step)
    cases = [some[number % len(some)].case for number in range(count)]
    await subject.bench.regrade(cases)  # what is imported once is not part of a step
    started = time.monotonic()
    graded = await subject.bench.regrade(cases)
    wall_s = time.monotonic() - started
    step_s = wall_s * subject.completions_per_step / count
    latency = {name: percentiles([one.grade.scores[name].seconds for one in graded]) for name in graded[0].grade.scores}
    figures = {"latency_s": latency, "completions_per_s": count / wall_s, "step_s": step_s}
    worst = max(latency.values(), key=lambda one: one["p99"])
    times = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in worst.items())
    said = (
        f"{times}; {count / wall_s:.0f} completions a second with {subject.planned_concurrency} at a time, so that the "
        f"{subject.completions_per_step} of a step take {step_s:.1f} s"
    )
    limit = min(grader.timeout_s for grader in subject.bench.graders)
    slow = sorted(graded, key=_seconds, reverse=True)[:2]
    if step_s > SLOW_STEP_S:
        return warned(f"{said}: sampling will wait for the grader", slow, **figures)
    if worst["p99"] > limit / 2:
        return warned(f"{said}: the slowest are near the deadline of {limit:g} s", slow, **figures)
    return passed(said, **figures)


async def _watched(subject: Subject, cases: list[Case]) -> tuple[list[Graded], float]:
    """Grade, and measure by how much the event loop was late at worst, seconds."""
    latest = 0.0

    async def beat() -> None:
        nonlocal latest
        while True:
            due = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            latest = max(latest, time.monotonic() - due)

    heart = asyncio.create_task(beat(), name="heartbeat of the audit")
    try:
        graded = await subject.bench.regrade(cases)
        await asyncio.sleep(2 * BEAT_S)
    finally:
        heart.cancel()
        with suppress(asyncio.CancelledError):
            await heart
    return graded, latest


def _seconds(graded: Graded) -> float:
    return max(score.seconds for score in graded.grade.scores.values())


PROBES = (
    Probe(
        name="latency",
        family="cost",
        why="Grading that is slower than sampling sets the pace of the whole run.",
        how="As many ordinary answers as a step has, at the planned concurrency.",
        threshold="warns if a step's grading takes more than 60 s, or the 99th percentile is above half the deadline",
        remedy="More grading.num_workers, a cache, a smaller judge, or a shorter path through the grader.",
        look=grading_is_quick,
    ),
    Probe(
        name="cost bombs",
        family="cost",
        why="Nine characters keep sympy busy for ever, one regular expression a core; elsewhere that is a stalled run, "
        "here it is a worker held until its deadline.",
        how="Towers of powers, factorials, strings for catastrophic regular expressions, 200,000 digits, deep nesting; "
        "bare and in the grader's format.",
        threshold="fails if any runs into the deadline, or holds the event loop for 0.5 s; warns from a "
        "quarter of the deadline",
        remedy="Bound what is parsed (length, digits, nesting, exponents) before it is; no nested quantifiers.",
        look=bombs_cost_one_deadline,
    ),
)
