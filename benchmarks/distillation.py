"""Compares distillation with GRPO: the optimizer steps until a fresh adapter has the held-out score of a teacher.

    python benchmarks/distillation.py --folder <folder>              five seeds
    python benchmarks/distillation.py sampler=transformers           with keys of `rft train` for all runs
    python benchmarks/distillation.py --teacher <run folder>         with a teacher that is there already
    python benchmarks/distillation.py --start hard                   on tasks that the base model never solves
    python benchmarks/distillation.py --distill learner.jsd_beta=1   with keys of the distilled runs alone

The teacher is the result of a quickstart with a seed of its own; with `--start hard`, of SFT, then GRPO,
on the tasks of three_arms.py. Two fresh adapters for each seed then learn the same tasks, one with GRPO, the other from
the teacher. Both sample the same number of completions per step, with the same settings apart from `learner`, what
the teacher returns, and the prompts of a step: distillation compares no completions of one prompt, so it takes one of
each. Both are measured on the same held-out tasks. A run has reached the teacher at the first measurement within the
95% interval of the teacher's score, or above it. On the hard start, distillation has half of GRPO's steps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import three_arms
from harness import commands, report

from rft.metrics.intervals import Estimate

TASKS = "embedded:chain_sum/test"
"""The held-out tasks of the quickstart; no run trains on them."""
DISTILLING = (
    *("teacher.top_logprobs=16", "learner.jsd_beta=0"),
    *("loop.prompts_per_step=64", "loop.completions_per_prompt=1"),
)
"""Keys of the distilled runs: the forward KL over 16 tokens, of 104 in the vocabulary, and steps without groups."""
HARD_LEARNING = ("learner.learning_rate=4e-3", "learner.trl.lr_scheduler_type=linear")
"""Learning rate of both learners on the hard start, which falls to 0 over the steps of each run."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """A base model's tasks, and a teacher that has learned them."""

    teacher: Path
    """Run folder of the teacher."""
    keys: tuple[str, ...]
    """Keys of all compared runs."""
    steps: Mapping[str, int]
    """Steps of the compared runs by learner."""


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
    parser.add_argument("--start", choices=("quickstart", "hard"), default="quickstart")
    parser.add_argument("--teacher", type=Path, help="run folder of the teacher; by default one is trained first")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2 (default: 5)")
    parser.add_argument("--steps", type=int, help="steps of GRPO (default: 20, and 100 on the hard start)")
    parser.add_argument(
        "--every", type=int, help="steps between two measurements (default: 2, and 10 on the hard start)"
    )
    parser.add_argument(
        "--distill",
        action="append",
        default=[],
        metavar="KEY",
        help=f"key of the distilled runs, after {' '.join(DISTILLING)}; repeat it for several",
    )
    parser.add_argument("keys", nargs="*", help="keys of `rft train` for all runs, such as sampler=transformers")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="rft-distillation-") as temporary:
        comparisons = compare(given.folder or Path(temporary), given)
    print("\n" + table(comparisons))
    print("\n" + conclusion(comparisons))


def compare(folder: Path, given: argparse.Namespace) -> list[Comparison]:
    """Train the teacher, if there is none, then both runs of every seed."""
    start = hard_start(folder, given) if given.start == "hard" else quickstart(folder, given)
    score = commands.measured(start.teacher, "after")
    print(f"teacher: {score.text()}", flush=True)
    own = (*DISTILLING, *given.distill)
    learners = {"grpo": ["learner=grpo"], "distill": ["learner=distill", f"teacher.adapter={start.teacher}", *own]}
    comparisons = []
    for seed in range(given.seeds):
        scores = {}
        for learner, words in learners.items():
            run = folder / f"{learner}-{seed}"
            length = (f"seed={seed}", f"loop.steps={start.steps[learner]}")
            commands.train(run, "experiment=quickstart", *words, *start.keys, *length, *given.keys)
            scores[learner] = curve(run)
        comparisons.append(Comparison(seed=seed, teacher=score, scores=scores))
        print(f"seed {seed}: {', '.join(row(comparisons[-1])[2:])}", flush=True)
    return comparisons


def quickstart(folder: Path, given: argparse.Namespace) -> Start:
    """Return the quickstart's tasks, on which the base model is right now and then."""
    teacher, steps = given.teacher or folder / "teacher", given.steps or 20
    # The seeds of the compared runs begin at 0.
    unmeasured = ["experiment=quickstart", f"seed={given.seeds}", "evaluation.every_steps=null"]
    commands.train(teacher, *unmeasured, *given.keys)
    keys = (f"data.validation={TASKS}", "data.test=null", f"evaluation.every_steps={given.every or 2}")
    return Start(teacher=teacher, keys=keys, steps={"grpo": steps, "distill": steps})


def hard_start(folder: Path, given: argparse.Namespace) -> Start:
    """Return the tasks of three_arms.py, on which the base model is never right, with its first arm as the teacher."""
    steps, seed = given.steps or 100, given.seeds
    folder.mkdir(parents=True, exist_ok=True)
    files = three_arms.write_files(folder, seed)
    teacher = given.teacher
    if teacher is None:
        pipeline = folder / "teacher"
        teacher = pipeline / "02-grpo"
        if not (teacher / "summary.json").is_file():
            test = f"data.test={files.held_out}"
            three_arms.sft_then_grpo(pipeline, files, (*three_arms.TRAINING, *given.keys, f"seed={seed}", test))
    keys = (
        *(f"data.train={files.tasks}", f"data.validation={files.held_out}", "data.test=null", three_arms.SHORT),
        *(f"evaluation.every_steps={given.every or 10}", *HARD_LEARNING),
    )
    return Start(teacher=teacher, keys=keys, steps={"grpo": steps, "distill": steps // 2})


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
    """Return the median ratio of the steps with its range over seeds; bounds where GRPO has not reached the teacher."""
    pairs = [(one.steps("distill"), one.steps("grpo"), max(one.scores["grpo"])) for one in comparisons]
    ratios = [distill / (grpo or last) for distill, grpo, last in pairs if distill]
    if len(ratios) < len(pairs):
        return "Not every distilled run reached its teacher, so there is no median ratio."
    stalled = sum(grpo is None for _, grpo, _ in pairs)
    bound = f"; GRPO did not reach it in {stalled} of {len(pairs)} seeds, which count with all their steps" * (
        stalled > 0
    )
    return f"Steps of distillation / steps of GRPO, median and range over seeds: {report.spread(ratios, 2)}{bound}"


if __name__ == "__main__":
    main()
