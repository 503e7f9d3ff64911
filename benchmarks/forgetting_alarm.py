"""Measures how often `evaluation.guard` notices that a task family was forgotten, and how often without a reason.

    python benchmarks/forgetting_alarm.py [--runs 20] [--more 200]

A run has 300 validation tasks of the guarded family, with outcomes of 0 or 1, and is measured before the first step and
eight times after it. In a planted run, the mean score falls by ten points within the first half of the run. In a sound
run, nothing changes but the noise. Outcomes are simulated, and rft's own guard (`rft.metrics.retention_guard`) judges
them with a limit of five points; an alarm is any warning of the run.

Three ways to measure differ in their noise. `greedy`: in each measurement, 5% of the tasks change from right to wrong
and as many from wrong to right, as under temperature 0 while other things are learned. `1 sample` and `4 samples`: each
task has a chance to be right, from a Beta(1.4, 0.6) distribution, and every measurement draws anew. That is the worst
case, because rft samples with the same random numbers each time.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from audit_rates import share
from harness import report

from rft.metrics.retention_guard import RetentionGuard

NUM_TASKS, NUM_MEASUREMENTS = 300, 8
DROP, LIMIT, CHURN = 0.10, 0.05, 0.05
FAMILY = "older"

Measure = Callable[[float], Mapping[str, float]]
"""Returns the scores of a measurement by task, with a drop of the mean since before the run."""


def greedy(chance: random.Random) -> Measure:
    """Return a policy under temperature 0, whose answers change for some tasks at each measurement."""
    is_right = [chance.random() < 0.7 for _ in range(NUM_TASKS)]
    num_right = sum(is_right)
    order = chance.sample([number for number in range(NUM_TASKS) if is_right[number]], num_right)

    def measure(drop: float) -> Mapping[str, float]:
        now = list(is_right)
        for number in order[: round(drop * NUM_TASKS)]:
            now[number] = False
        right, wrong = ([number for number in range(NUM_TASKS) if now[number] is was] for was in (True, False))
        for same in (right, wrong):
            for number in chance.sample(same, round(CHURN * NUM_TASKS)):
                now[number] = not now[number]
        return {f"{FAMILY}/{number}": float(right) for number, right in enumerate(now)}

    return measure


def sampled(chance: random.Random, *, num_samples: int) -> Measure:
    """Return a policy that samples its answers."""
    chances = [chance.betavariate(1.4, 0.6) for _ in range(NUM_TASKS)]
    mean = sum(chances) / NUM_TASKS

    def measure(drop: float) -> Mapping[str, float]:
        left = 1 - drop / mean
        return {
            f"{FAMILY}/{number}": sum(chance.random() < left * p for _ in range(num_samples)) / num_samples
            for number, p in enumerate(chances)
        }

    return measure


WAYS: Mapping[str, Callable[[random.Random], Measure]] = {
    "greedy": greedy,
    "1 sample": partial(sampled, num_samples=1),
    "4 samples": partial(sampled, num_samples=4),
}


def has_alarm(way: str, drop: float, seed: int) -> bool:
    """Return whether the guard warns during a run whose mean falls by `drop`."""
    measure = WAYS[way](random.Random(f"{way} {drop} {seed}"))
    guard = RetentionGuard({FAMILY: LIMIT}, stops=False, bounds={FAMILY: (0.0, 1.0)})
    guard.refer_to(measure(0.0))
    falls = [drop * min(1.0, 2 * number / NUM_MEASUREMENTS) for number in range(1, NUM_MEASUREMENTS + 1)]
    warnings = [warning for fall in falls for warning in guard.observe(measure(fall))[1]]
    return bool(warnings)


def row(way: str, seeds: Sequence[int]) -> list[str]:
    """Return a row of the table: alarms of planted and of sound runs."""
    return [way, *(share(sum(has_alarm(way, drop, seed) for seed in seeds), len(seeds)) for drop in (DROP, 0.0))]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="runs of each kind (default: 20)")
    parser.add_argument("--more", type=int, default=200, help="further runs of each kind, for the rates")
    given = parser.parse_args()
    head = ["measured", "alarms of planted runs", "alarms of sound runs"]
    for seeds in (range(given.runs), range(given.runs, given.runs + given.more)):
        if seeds:
            print(report.table(head, [row(way, seeds) for way in WAYS]) + "\n")


if __name__ == "__main__":
    main()
