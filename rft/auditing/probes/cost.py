"""Probes of the cost of grading, on ordinary answers and on completions that are expensive to grade."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from rft.auditing.audit_panel import asks_a_service
from rft.auditing.cases import Case, GradedCase
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.grader_profile import GraderProfile
from rft.auditing.probe import Probe
from rft.grading.report import percentiles
from rft.types import Status

STALL_S = 0.5
"""A longer block of the event loop also stalls sampling."""
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
    "a very long equation": "x" + "".join(f"+x^{{{power}}}" for power in range(2, 60)) + "=0",
    "half a million tags": "<think></think>" * 33_000,
}
"""Completions that are cheap to write and expensive to grade."""


async def cost_bombs(profile: GraderProfile) -> Finding:
    """Check that no completion keeps a grader busy."""
    task = (profile.solved or list(profile.tasks))[0]
    cases = [Case(task=task, completion=text, note=note) for note, text in BOMBS.items()]
    cases += [profile.case(task, text, f"{note}, in the grader's format") for note, text in BOMBS.items()]
    started = time.monotonic()
    graded, stall_s = await _watched(profile, cases)
    wall_s = time.monotonic() - started
    late = [
        result for result in graded if any(score.status is Status.TIMEOUT for score in result.grade.scores.values())
    ]
    held = [
        result
        for result in graded
        for grader in profile.panel.declared
        if grader.in_process and result.grade.scores[grader.name].seconds > STALL_S and not asks_a_service(grader)
    ]
    figures = {"wall_s": wall_s, "late": len(late), "longest_stall_s": stall_s}
    if held or stall_s > STALL_S:
        longest_s = max([stall_s, *map(_seconds, held)])
        message = f"grading blocked the event loop, and with it sampling, for up to {longest_s:.1f} s"
        return failed(message, held or graded[:1], **figures)
    if late:
        message = (
            f"{len(late)} of {len(graded)} cost bombs reach the deadline: each occupies a worker until then and earns"
        )
        return failed(f"{message} no reward, so the model does not learn to avoid them", late, **figures)
    slowest = max(graded, key=_seconds)
    limit = min(grader.timeout_s for grader in profile.panel.graders)
    if _seconds(slowest) > limit / 4:
        return warned(f"the slowest cost bomb takes {_seconds(slowest):.1f} s", [slowest], **figures)
    return passed(f"the slowest of {len(graded)} cost bombs takes {_seconds(slowest):.2f} s", **figures)


async def latency(profile: GraderProfile) -> Finding:
    """Measure the latency of ordinary answers and estimate the grading time of a step."""
    ordinary = [*profile.right, *profile.wrong] or profile.panel.seen[:30]
    if not ordinary:
        return not_applicable("the audit has graded no completions")
    count = min(MAX_MEASURED, profile.completions_per_step)
    cases = [ordinary[number % len(ordinary)].case for number in range(count)]
    await profile.panel.regrade(cases)  # the first call includes imports, which a step does not repeat
    started = time.monotonic()
    graded = await profile.panel.regrade(cases)
    wall_s = time.monotonic() - started
    step_s = wall_s * profile.completions_per_step / count
    latencies = {
        name: percentiles([result.grade.scores[name].seconds for result in graded]) for name in graded[0].grade.scores
    }
    figures = {"latency_s": latencies, "completions_per_s": count / wall_s, "step_s": step_s}
    worst = max(latencies.values(), key=lambda times: times["p99"])
    times = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in worst.items())
    message = (
        f"{times}; {count / wall_s:.0f} completions per second at a concurrency of "
        f"{profile.planned_concurrency}, so the {profile.completions_per_step} of a step take {step_s:.1f} s"
    )
    limit = min(grader.timeout_s for grader in profile.panel.graders)
    slow = sorted(graded, key=_seconds, reverse=True)[:2]
    if step_s > SLOW_STEP_S:
        return warned(f"{message}: sampling will wait for the grader", slow, **figures)
    if worst["p99"] > limit / 2:
        return warned(f"{message}: the slowest calls are near the deadline of {limit:g} s", slow, **figures)
    return passed(message, **figures)


async def _watched(profile: GraderProfile, cases: list[Case]) -> tuple[list[GradedCase], float]:
    """Grade the cases, and measure the longest delay of the event loop in seconds."""
    latest = 0.0

    async def beat() -> None:
        nonlocal latest
        while True:
            due = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            latest = max(latest, time.monotonic() - due)

    heart = asyncio.create_task(beat(), name="heartbeat of the audit")
    try:
        graded = await profile.panel.regrade(cases)
        await asyncio.sleep(2 * BEAT_S)
    finally:
        heart.cancel()
        with suppress(asyncio.CancelledError):
            await heart
    return graded, latest


def _seconds(graded: GradedCase) -> float:
    return max(score.seconds for score in graded.grade.scores.values())


PROBES = (
    Probe(
        name="latency",
        family="cost",
        why="If grading is slower than sampling, it determines the speed of the run.",
        how="As many ordinary answers as a step grades, at the planned concurrency.",
        threshold="warns if grading a step takes more than 60 s, or if the 99th percentile exceeds half the deadline",
        remedy="Raise grading.num_workers, cache the scores, use a smaller judge, or simplify the grader.",
        run=latency,
    ),
    Probe(
        name="cost bombs",
        family="cost",
        why="Nine characters can occupy sympy indefinitely, and one regular expression can occupy a core. rft stops "
        "the worker at its deadline; other systems stall.",
        how="Towers of powers, factorials, strings for catastrophic regular expressions, 200,000 digits and deep "
        "nesting, bare and in the grader's format.",
        threshold="fails if any reaches the deadline or blocks the event loop for 0.5 s; warns above a quarter of the "
        "deadline",
        remedy="Limit length, digits, nesting and exponents before parsing; avoid nested quantifiers.",
        run=cost_bombs,
    ),
)
