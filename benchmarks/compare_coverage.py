"""Measures the intervals and tests that `rft compare` prints, on simulated runs whose true means are known.

    python benchmarks/compare_coverage.py [--repeats 1000] [--only tasks|seeds]

Tasks: each repeat draws tasks from a population, and two or three runs that answer each task once or several times.
`rft.evidence.compared.compare_measured` then gives what the command prints. A cell shows the percent of 95% intervals
that contain the true value: of the difference / of one mean / of pass@2. A star marks cells in which most differences
carry a caveat. The second table shows how often equal runs are called different: the percent of p-values of 5% or less,
with three runs that of any of the three corrected ones.

Seeds: the tasks are fixed, and each repeat draws runs of two or three settings. `compare_settings` gives the intervals.
A cell shows the percent in which the intervals of all differences contain their true values / the percent of one mean.

The exit code is 1 unless each cell without a star, apart from those of runs that fail as a whole, contains the true
difference in at least 93% of cases, and no p-value is 5% or less in more than 5% of cases, both up to two standard
errors.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rft.evidence.compared import Compared, compare_measured, compare_settings
from rft.evidence.measured import Measured
from rft.metrics.intervals import Estimate

TASKS = (20, 50, 100, 300)
SEEDS = (2, 3, 5, 10)
Scores = np.ndarray
"""Scores of one run, of shape (tasks, samples)."""


class Population(NamedTuple):
    """Tasks, and runs that answer them. `mean` and `pass_at_2` are those of the last run."""

    draw: Callable[[np.random.Generator, int], Sequence[Scores]]
    difference: float
    mean: float
    pass_at_2: float | None = None
    is_null: bool = False


def right_or_wrong(a: float, b: float, *, samples: int, gain: float = 0.0, runs: int = 2) -> Population:
    """Outcomes of 0 or 1, with pass rates p of Beta(a, b); the last run has p + (1 - p) * gain."""

    def draw(random: np.random.Generator, n: int) -> Sequence[Scores]:
        p = random.beta(a, b, n)[:, None]
        gains = [0.0] * (runs - 1) + [gain]
        return [(random.random((n, samples)) < p + (1 - p) * own).astype(float) for own in gains]

    wrong, wrong_twice = b / (a + b), b * (b + 1) / ((a + b) * (a + b + 1))
    mean, twice = 1 - wrong * (1 - gain), 1 - wrong_twice * (1 - gain) ** 2
    return Population(draw, mean - (1 - wrong), mean, twice if samples > 1 else None, is_null=gain == 0)


def partial_credit(gain: float) -> Population:
    """Scores between 0 and 1, of which most are small; the gains of tasks are skewed, too."""

    def draw(random: np.random.Generator, n: int) -> Sequence[Scores]:
        quality = random.beta(0.2, 1.0, (n, 1))
        noise = [random.uniform(0.0, 1.0, (n, 1)) for _ in range(2)]
        gains = gain * random.beta(0.2, 1.0, (n, 1))
        before, after = quality * noise[0], quality * noise[1]
        return [before, after + (1 - after) * gains]

    mean = 0.2 / 1.2 / 2
    after = mean + (1 - mean) * gain * 0.2 / 1.2
    return Population(draw, after - mean, after, is_null=gain == 0)


def won_much_lost_little() -> Population:
    """Equal means, but not equal runs: a tenth of the tasks gain 0.45, and the others lose 0.05 (four samples)."""

    def draw(random: np.random.Generator, n: int) -> Sequence[Scores]:
        change = np.where(random.random((n, 1)) < 0.1, 0.45, -0.05)
        return [random.binomial(4, 0.5 + own, (n, 1)) / 4 for own in (np.zeros((n, 1)), change)]

    return Population(draw, 0.0, 0.5, is_null=True)


POPULATIONS = {
    "1 sample, pass rates Beta(0.5, 0.5), equal": right_or_wrong(0.5, 0.5, samples=1),
    "1 sample, pass rates Beta(0.5, 0.5), gain": right_or_wrong(0.5, 0.5, samples=1, gain=0.3),
    "1 sample, hard tasks Beta(0.2, 2), equal": right_or_wrong(0.2, 2.0, samples=1),
    "1 sample, hard tasks Beta(0.2, 2), gain": right_or_wrong(0.2, 2.0, samples=1, gain=0.2),
    "1 sample, partial credit, equal": partial_credit(0.0),
    "1 sample, partial credit, skewed gain": partial_credit(0.5),
    "4 samples, pass rates Beta(0.5, 0.5), equal": right_or_wrong(0.5, 0.5, samples=4),
    "4 samples, pass rates Beta(0.5, 0.5), gain": right_or_wrong(0.5, 0.5, samples=4, gain=0.3),
    "4 samples, hard tasks Beta(0.2, 2), equal": right_or_wrong(0.2, 2.0, samples=4),
    "4 samples, hard tasks Beta(0.2, 2), gain": right_or_wrong(0.2, 2.0, samples=4, gain=0.2),
    "4 samples, few tasks won much, most lost a little": won_much_lost_little(),
    "16 samples, hard tasks Beta(0.2, 2), gain": right_or_wrong(0.2, 2.0, samples=16, gain=0.2),
    "3 runs, 1 sample, Beta(0.5, 0.5), equal": right_or_wrong(0.5, 0.5, samples=1, runs=3),
    "3 runs, 4 samples, Beta(0.5, 0.5), equal": right_or_wrong(0.5, 0.5, samples=4, runs=3),
}


def normal_runs(random: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """The effects of runs, around 0."""
    return random.normal(0.0, scale, count)


def skewed_runs(random: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """Effects with a skewness of 1.4: a chi-squared distribution with 4 degrees of freedom, around 0."""
    return scale * (random.chisquare(4, count) - 4) / math.sqrt(8)


def failing_runs(random: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """One run in ten fails and loses most, the others differ little."""
    failed = random.random(count) < 0.1
    return np.where(failed, -10 * scale, random.normal(scale, scale / 4, count)) + 0.1 * scale


class Settings(NamedTuple):
    """How the runs of each setting differ; `scales` holds the standard deviation of each setting's runs."""

    effects: Callable[[np.random.Generator, int, float], np.ndarray]
    scales: tuple[float, ...]
    fails: bool = False


SETTINGS = {
    "2 settings, normal runs, equal spread": Settings(normal_runs, (0.03, 0.03)),
    "2 settings, normal runs, spread 1 to 10": Settings(normal_runs, (0.005, 0.05)),
    "2 settings, skewed runs": Settings(skewed_runs, (0.03, 0.03)),
    "2 settings, skewed runs, spread 1 to 10": Settings(skewed_runs, (0.005, 0.05)),
    "2 settings, one run in ten fails": Settings(failing_runs, (0.03, 0.03), fails=True),
    "3 settings, normal runs": Settings(normal_runs, (0.03, 0.03, 0.03)),
    "3 settings, skewed runs": Settings(skewed_runs, (0.03, 0.03, 0.03)),
}


def measured(name: str, scores: Scores, seed: int = 0) -> Measured:
    """Return a run as `rft compare` reads it."""
    samples = {"reward": {str(task): own for task, own in enumerate(scores.tolist())}}
    return Measured(
        name=name,
        place=Path(name),
        phase="after",
        samples=samples,
        missing={"reward": 0},
        tasks=dict.fromkeys(samples["reward"], ("", "")),
        bounds={"reward": (0.0, 1.0)},
        graders={},
        seed=seed,
        setting="",
    )


def contains(one: Estimate, value: float) -> bool:
    """Whether the interval contains the value, up to rounding."""
    assert one.ci95 is not None
    return one.ci95[0] - 1e-12 <= value <= one.ci95[1] + 1e-12


class Cell(NamedTuple):
    """Shares of the repeats; None if they were not measured."""

    difference: float
    mean: float
    pass_at_2: float | None
    caveats: float
    rejected: float | None
    """Share of repeats with a p-value of 5% or less."""


def tasks_cell(name: str, n: int, repeats: int) -> Cell:
    """Simulate comparisons whose unit is the task. The seed depends only on the cell."""
    population = POPULATIONS[name]
    random = np.random.default_rng([n, list(POPULATIONS).index(name)])
    found: list[Compared] = []
    for _ in range(repeats):
        runs = [measured(str(number), scores) for number, scores in enumerate(population.draw(random, n))]
        found.append(compare_measured(runs, "reward", ks=(2,)))
    differences = [one.comparison.differences[-1].estimate for one in found]
    means = [list(one.comparison.means.values())[-1] for one in found]
    twice = [list(one.pass_at[2].values())[-1] for one in found if one.pass_at]
    smallest = [min(own.adjusted for own in one.tested if own.adjusted is not None) for one in found]
    return Cell(
        difference=statistics.fmean(contains(one, population.difference) for one in differences),
        mean=statistics.fmean(contains(one, population.mean) for one in means),
        pass_at_2=(
            None
            if population.pass_at_2 is None
            else statistics.fmean(contains(one, population.pass_at_2) for one in twice)
        ),
        caveats=statistics.fmean(one.caveat is not None for one in differences),
        rejected=statistics.fmean(p <= 0.05 for p in smallest) if population.is_null else None,
    )


def seeds_cell(name: str, num_seeds: int, repeats: int, num_tasks: int = 200) -> Cell:
    """Simulate comparisons whose unit is the seed: all runs answer the same tasks once."""
    settings = SETTINGS[name]
    random = np.random.default_rng([num_seeds, list(SETTINGS).index(name)])
    p = random.uniform(0.4, 0.6, (num_tasks, 1))  # far enough from 0 and 1 for every effect
    covered, of_mean = [], []
    for _ in range(repeats):
        runs = {
            str(number): [
                measured(str(number), (random.random((num_tasks, 1)) < p + effect).astype(float), seed)
                for seed, effect in enumerate(settings.effects(random, num_seeds, scale))
            ]
            for number, scale in enumerate(settings.scales)
        }
        one = compare_settings(runs, "reward").comparison
        if all(own.estimate.ci95 for own in one.differences):  # without one if all runs have the same mean
            covered.append(all(contains(own.estimate, 0.0) for own in one.differences))
        of_mean += [contains(own, float(p.mean())) for own in list(one.means.values())[-1:] if own.ci95]
    return Cell(statistics.fmean(covered), statistics.fmean(of_mean), None, 0.0, None)


def text(cell: Cell) -> str:
    """Return the percents of a cell."""
    shares = [share for share in (cell.difference, cell.mean, cell.pass_at_2) if share is not None]
    return " / ".join(f"{100 * share:.1f}" for share in shares) + "*" * (cell.caveats > 0.5)


def table(title: str, columns: Sequence[str], rows: dict[str, list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"| {title} | " + " | ".join(columns) + " |\n|" + " --- |" * (len(columns) + 1))
    print("\n".join(f"| {name} | " + " | ".join(row) + " |" for name, row in rows.items()), end="\n\n", flush=True)


def main() -> None:
    """Measure, print the tables, and check the targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--only", choices=("tasks", "seeds"))
    given = parser.parse_args()
    error = math.sqrt(0.05 * 0.95 / given.repeats)
    wrong: list[str] = []
    if given.only != "tasks":
        by_seeds = {name: [seeds_cell(name, count, given.repeats) for count in SEEDS] for name in SETTINGS}
        rows = {name: [text(cell) for cell in cells] for name, cells in by_seeds.items()}
        table("difference / mean, by seed", [f"{count} seeds" for count in SEEDS], rows)
        sound = {name: cells for name, cells in by_seeds.items() if not SETTINGS[name].fails}
        wrong += [name for name, cells in sound.items() if min(cell.difference for cell in cells) < 0.93 - 2 * error]
    if given.only != "seeds":
        by_tasks = {}
        for name in POPULATIONS:
            by_tasks[name] = [tasks_cell(name, n, given.repeats) for n in TASKS]
            print(name, *by_tasks[name], sep="\n  ", file=sys.stderr, flush=True)
        columns = [f"{n} tasks" for n in TASKS]
        rows = {name: [text(cell) for cell in cells] for name, cells in by_tasks.items()}
        table("difference / mean / pass@2, by task", columns, rows)
        rejected = {
            name: [cell.rejected for cell in cells if cell.rejected is not None] for name, cells in by_tasks.items()
        }
        rows = {name: [f"{100 * share:.1f}" for share in shares] for name, shares in rejected.items() if shares}
        table("called different", columns, rows)
        sound = {name: [cell for cell in cells if cell.caveats <= 0.5] for name, cells in by_tasks.items()}
        wrong += [name for name, cells in sound.items() if any(cell.difference < 0.93 - 2 * error for cell in cells)]
        wrong += [name for name, shares in rejected.items() if any(share > 0.05 + 2 * error for share in shares)]
    print(f"targets missed: {wrong}" if wrong else "all targets met")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
