"""Measures the cost of several nodes: the same run on one node and on three, with the same resources in total.

    python benchmarks/three_nodes.py [--repeats 4] [--steps 23] [--model tiny|medium]

Two samplers and the learner, each with one CPU and one thread, run side by side on a node with three CPUs, or alone on
three nodes with one CPU. The nodes are raylets of this machine and communicate over loopback, so this measures rft and
Ray, not a network. The arms take turns (ABBA). The exit code is 1 if a step on three nodes takes more than 10% longer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from harness import models, report
from harness.arms import Arm, Job, Outcome, run_arm, taking_turns

ALLOWED = 1.10
TIMEOUT_S = 600.0
SAME = {"sampler.num_actors": 2, "sampler.num_threads": 1, "learner.num_threads": 1}
ARMS = [
    Arm(name="one node", side="nodes", options={"nodes": 1, **SAME}),
    Arm(name="three nodes", side="nodes", options={"nodes": 3, **SAME}),
]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "medium"], default="tiny", help="base model (default: tiny)")
    parser.add_argument("--repeats", type=int, default=4, help="runs of each arm (default: 4)")
    parser.add_argument("--steps", type=int, default=23, help="steps of a run, including 3 of warm-up (default: 23)")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    outcomes: dict[str, list[Outcome]] = {arm.name: [] for arm in ARMS}
    with tempfile.TemporaryDirectory(prefix="rft-nodes-") as temporary:
        job = make_job(given.model, Path(temporary), given.steps)
        for repeat, arm in taking_turns(ARMS, given.repeats):
            outcome = run_arm(arm, job, Path(temporary) / f"{repeat}-{arm.options['nodes']}", timeout_s=TIMEOUT_S)
            outcomes[arm.name].append(outcome)
            phases = report.phase_cell(report.phases([outcome], job.warm_up_steps))
            step = f"{arm.name}: step {report.step_s(outcome, job):.3f} s"
            print(f"{step}: {phases}; other work: {outcome.other_cores:.2f} cores", flush=True)
    one, three = ([report.step_s(outcome, job) for outcome in outcomes[arm.name]] for arm in ARMS)
    ratios = report.ratios(three, one)
    head = ["nodes", "step, s", "phases, s", "three / one", "others, cores"]
    rows = [
        [
            arm.name,
            report.spread(steps),
            report.phase_cell(report.phases(outcomes[arm.name], job.warm_up_steps)),
            ratio,
            f"{statistics.fmean(outcome.other_cores for outcome in outcomes[arm.name]):.2f}",
        ]
        for arm, steps, ratio in zip(ARMS, (one, three), ("1", report.spread(ratios)), strict=True)
    ]
    print("\n" + report.table(head, rows))
    if (ratio := statistics.median(ratios)) > ALLOWED:
        raise SystemExit(f"a step on three nodes took {ratio:.2f} times one on one node, more than {ALLOWED}")


def make_job(model: str, folder: Path, steps: int) -> Job:
    """Return the tiny or the medium job."""
    job = Job(name=model, model=models.TINY, tasks=models.SUMS, score="answer", steps=steps, warm_up_steps=3)
    if model == "tiny":
        return job
    medium = models.make_medium(folder / "medium")
    return replace(job, model=medium, score="digits", max_completion_tokens=256, max_context_tokens=384)


if __name__ == "__main__":
    main()
