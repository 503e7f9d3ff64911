"""Measures sampling ahead of the learner with a slow grader: a step should take as long as its longer half.

    python benchmarks/staleness.py [--delays 0.5 2] [--model tiny|medium] [--repeats 3]

At staleness 0 the halves of a step (sampling and grading; learning and sync) take turns, which shows the duration of
each. At staleness 1 they overlap, and a step should take no longer than the longer half. The exit code is 1 if it takes
over 15% more.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from harness import models, report
from harness.arms import Arm, Job, run_arm, taking_turns

ALLOWED = 1.15
TIMEOUT_S = 900.0


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", type=float, nargs="+", default=[0.5, 2.0], help="seconds a grader sleeps")
    parser.add_argument("--model", choices=["tiny", "medium"], default="tiny", help="base model (default: tiny)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--steps", type=int, default=10, help="steps of a run, including 3 of warm-up (default: 10)")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    rows, worst = [], 0.0
    with tempfile.TemporaryDirectory(prefix="rft-staleness-") as temporary:
        folder = Path(temporary)
        for delay_s in given.delays:
            job = make_job(given.model, folder, delay_s, given.steps)
            halves, step = measure(job, given.repeats, folder / f"{delay_s}")
            share = step / max(halves)
            worst = max(worst, share)
            rows.append(
                [
                    f"{delay_s:g}",
                    *(f"{half:.3f}" for half in halves),
                    f"{sum(halves):.3f}",
                    f"{step:.3f}",
                    f"{share:.2f}",
                ]
            )
    head = [
        "grader sleeps, s",
        "sample + grade, s",
        "learn + sync, s",
        "staleness 0, s",
        "staleness 1, s",
        "of the longer half",
    ]
    print("\n" + report.table(head, rows))
    if worst > ALLOWED:
        raise SystemExit(f"a step at staleness 1 took {worst:.2f} times its longer half, more than {ALLOWED}")


def make_job(model: str, folder: Path, delay_s: float, steps: int) -> Job:
    """Return the tiny or the medium job with a sleeping grader."""
    job = Job(
        name=f"{model}, {delay_s:g} s",
        model=models.TINY,
        tasks=models.SUMS,
        score="answer",
        steps=steps,
        warm_up_steps=3,
        delay_s=delay_s,
    )
    if model == "tiny":
        return job
    medium = models.make_medium(folder / "medium")
    return replace(job, model=medium, score="digits", max_completion_tokens=256, max_context_tokens=384)


def measure(job: Job, repeats: int, folder: Path) -> tuple[tuple[float, float], float]:
    """Return medians over the runs: the halves of a step at staleness 0, and the whole step at staleness 1."""
    arms = [Arm(name=str(k), side="rft", options={"loop.staleness": k}) for k in (0, 1)]
    sampling, learning, ahead = [], [], []
    for repeat, arm in taking_turns(arms, repeats):
        staleness = int(arm.name)
        outcome = run_arm(
            arm, replace(job, steps=job.steps + staleness), folder / f"{repeat}-{arm.name}", timeout_s=TIMEOUT_S
        )
        seconds = report.phases([outcome], job.warm_up_steps)
        print(
            f"{job.name}, staleness {arm.name}: {report.phase_cell(seconds)}; others: {outcome.other_cores:.2f} cores",
            flush=True,
        )
        if staleness:
            ahead.append(report.step_s(outcome, job, cool_down=staleness))
        else:
            sampling.append(seconds["sample_and_grade"])
            learning.append(report.step_s(outcome, job) - seconds["sample_and_grade"])
    return (statistics.median(sampling), statistics.median(learning)), statistics.median(ahead)


if __name__ == "__main__":
    main()
