"""Compares distillation with GRPO: the optimizer steps until a fresh adapter has the held-out score of a teacher.

    python benchmarks/distillation.py --folder <folder>              five seeds
    python benchmarks/distillation.py sampler=transformers           with keys of `rft train` for all runs
    python benchmarks/distillation.py --teacher <run folder>         with a teacher that is there already

The teacher is the result of a quickstart with a seed of its own. Two fresh adapters for each seed then learn the same
tasks, one with GRPO, the other from the teacher. Both sample the same number of completions per step, with the same
settings apart from `learner`, and are measured on the same held-out tasks. A run has reached the teacher at the first
measurement within the 95% interval of the teacher's score, or above it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import commands, report

from rft.metrics.intervals import Estimate

TASKS = "embedded:chain_sum/test"
"""The held-out tasks; no run trains on them."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The two runs of one seed and the teacher's score."""

    seed: int
    """Seed of both runs."""
    teacher: Estimate
    """Held-out score of the teacher."""
    scores: Mapping[str, Mapping[int, Estimate]]
    """Held-out scores by learner (`grpo`, `distill`) and step."""

    def steps(self, learner: str) -> int | None:
        """Return the step of the first measurement within the teacher's interval or above; None if there is none."""
        assert self.teacher.ci95 is not None
        low = self.teacher.ci95[0]
        return next((step for step, score in self.scores[learner].items() if score.mean >= low), None)


def main() -> None:
    """Train all runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keeps the runs; finished ones are not repeated")
    parser.add_argument("--teacher", type=Path, help="run folder of a quickstart; by default one is trained first")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2 (default: 5)")
    parser.add_argument("--steps", type=int, default=20, help="steps of the compared runs (default: 20)")
    parser.add_argument("--every", type=int, default=2, help="steps between two measurements (default: 2)")
    parser.add_argument("keys", nargs="*", help="keys of `rft train` for all runs, such as sampler=transformers")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="rft-distillation-") as temporary:
        comparisons = compare(given.folder or Path(temporary), given)
    print("\n" + table(comparisons))
    print("\n" + conclusion(comparisons))


def compare(folder: Path, given: argparse.Namespace) -> list[Comparison]:
    """Train the teacher, if there is none, then both runs of every seed."""
    teacher = given.teacher or folder / "teacher"
    # The seeds of the compared runs begin at 0.
    unmeasured = ["experiment=quickstart", f"seed={given.seeds}", "evaluation.every_steps=null"]
    summary = commands.train(teacher, *unmeasured, *given.keys)
    score = Estimate.from_json(summary["eval"]["after"])
    print(f"teacher: {score.text()}", flush=True)
    learners = {"grpo": ["learner=grpo"], "distill": ["learner=distill", f"teacher.adapter={teacher}"]}
    comparisons = []
    for seed in range(given.seeds):
        scores = {}
        for learner, words in learners.items():
            run = folder / f"{learner}-{seed}"
            commands.train(run, *keys_of(seed, given), *given.keys, *words)
            scores[learner] = curve(run)
        comparisons.append(Comparison(seed=seed, teacher=score, scores=scores))
        print(f"seed {seed}: {', '.join(row(comparisons[-1])[2:])}", flush=True)
    return comparisons


def keys_of(seed: int, given: argparse.Namespace) -> list[str]:
    """Return the keys of a compared run: the quickstart, measured every few steps on the test tasks."""
    measured = [f"data.validation={TASKS}", "data.test=null", f"evaluation.every_steps={given.every}"]
    return ["experiment=quickstart", *measured, f"seed={seed}", f"loop.steps={given.steps}"]


def curve(folder: Path) -> dict[int, Estimate]:
    """Return the held-out scores of a run by step."""
    means, lows, highs = (commands.metric_by_step(folder, f"eval/{name}") for name in ("mean", "low", "high"))
    return {step: Estimate(mean=means[step], ci95=(lows[step], highs[step]), n=0) for step in sorted(means)}


def table(comparisons: Sequence[Comparison]) -> str:
    """Return the Markdown table with one row for each seed."""
    head = ["seed", "teacher", "GRPO, steps", "distillation, steps", "ratio", "distilled at that step"]
    return report.table(head, map(row, comparisons))


def row(comparison: Comparison) -> list[str]:
    """Return the row of a seed; the ratio of a run that has not reached the teacher is unknown."""
    grpo, distill = (comparison.steps(learner) for learner in ("grpo", "distill"))
    steps = [
        f"more than {max(comparison.scores[learner])}" if count is None else str(count)
        for learner, count in (("grpo", grpo), ("distill", distill))
    ]
    ratio = "-" if grpo is None or distill is None else f"{distill / grpo:.2f}"
    reached = "-" if distill is None else comparison.scores["distill"][distill].text()
    return [str(comparison.seed), comparison.teacher.text(), *steps, ratio, reached]


def conclusion(comparisons: Sequence[Comparison]) -> str:
    """Return the median ratio of the steps with its range over seeds."""
    pairs = [(one.steps("distill"), one.steps("grpo")) for one in comparisons]
    ratios = [distill / grpo for distill, grpo in pairs if distill and grpo]
    if len(ratios) < len(pairs):
        return "Not every run reached its teacher, so there is no median ratio."
    return f"Steps of distillation / steps of GRPO, median and range over seeds: {report.spread(ratios, 2)}"


if __name__ == "__main__":
    main()
