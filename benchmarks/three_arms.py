"""Compares three arms at equal optimizer steps on tasks that the base model never solves: SFT then GRPO, GRPO, SFT.

    python benchmarks/three_arms.py                          # seeds 0 to 4; tables in Markdown
    python benchmarks/three_arms.py sampler=transformers --seeds 0

The task: spell a word of three to six letters backward. The embedded model can do this, but only after the question of
reasoning-gym; here the question is shorter, and the base model never answers it. A seed draws 64 worked answers for SFT
from the embedded training tasks; GRPO has the other 436, and the 250 embedded test tasks are held out. The script first
samples the base model on the tasks of GRPO, 8 completions each. It fails if the base model is right more often than
`MAX_PASS_RATE`, if more groups than `MAX_INFORMATIVE_SHARE` could teach it something, or if SFT then GRPO ends below
`MIN_SCORE`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import report, words
from harness.commands import Signal, by_task, measured, run_rft, signal

from rft.metrics.intervals import Estimate, paired_difference

ARMS = ("SFT then GRPO", "GRPO", "SFT")
NUM_ROWS = 64
SFT_STEPS, GRPO_STEPS = 60, 40
COMPLETIONS_PER_PROMPT = 8
MAX_PASS_RATE, MAX_INFORMATIVE_SHARE, MIN_SCORE = 0.003, 0.03, 0.9

SHORT = "sampler.max_completion_tokens=32"
"""A worked answer has up to 21 tokens."""
TRAINING = (SHORT, "evaluation.every_steps=null", "data.validation=null", "logging=none")
SFT = ("learner=sft", "learner.learning_rate=4e-3")
GRPO = ("learner.learning_rate=5e-4",)
"""Settings of the stages; all others are the quickstart's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The rows of a seed; no word is in two files."""

    rows: Path
    """Worked answers."""
    tasks: Path
    """Tasks that GRPO samples."""
    held_out: Path
    """Tasks of the measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The results of a seed."""

    base: Signal
    """Of the base model on the tasks of GRPO."""
    alone: Signal
    """Of all steps of GRPO alone."""
    before: Estimate
    """Held-out score of the base model."""
    between: Estimate
    """Held-out score of the first arm after SFT."""
    after: dict[str, Estimate]
    """Held-out score of each arm at its end."""
    difference: Estimate
    """Held-out score of SFT then GRPO minus that of SFT alone, paired by task."""


def main() -> None:
    """Run the arms of each seed, print the tables, and fail if the start or the result is not as stated above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("keys", nargs="*", help="further keys of rft for all commands, such as sampler=transformers")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    outcomes = {}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory(prefix="rft-arms-") as folder:
            outcomes[seed] = measure(Path(folder), seed, given.keys)
        print(f"seed {seed}: {outcomes[seed]}", flush=True)
    print_tables(outcomes)
    if missed := [line for seed, outcome in outcomes.items() for line in problems(seed, outcome)]:
        raise SystemExit("\n".join(missed))


def measure(folder: Path, seed: int, keys: Sequence[str]) -> Outcome:
    """Sample the base model, and run the arms of a seed.

    Args:
        folder: An empty folder for files and runs.
        seed: Selects the words, and is the seed of all runs.
        keys: Further keys of rft for all commands.
    """
    files = write_files(folder, seed)
    base, both, grpo, sft = (folder / name for name in ("base", "both", "grpo", "sft"))
    keys = (*keys, f"seed={seed}")
    sample_base(base, files.tasks, keys)
    keys = (*TRAINING, *keys, f"data.test={files.held_out}")
    sft_then_grpo(both, files, keys)
    train = ("train", "experiment=quickstart", *keys, f"loop.steps={SFT_STEPS + GRPO_STEPS}")
    run_rft(*train, f"output_dir={grpo}", f"data.train={files.tasks}", *GRPO)
    run_rft(*train, f"output_dir={sft}", f"data.train={files.rows}", *SFT)
    ends = dict(zip(ARMS, (both / "02-grpo", grpo, sft), strict=True))
    return Outcome(
        base=signal(base, "test"),
        alone=signal(grpo, "train"),
        before=measured(both / "01-sft", "before"),
        between=measured(both / "02-grpo", "before"),
        after={name: measured(run, "after") for name, run in ends.items()},
        difference=paired_difference(by_task(sft, "after"), by_task(both / "02-grpo", "after")),
    )


def sft_then_grpo(run: Path, files: Files, keys: Sequence[str]) -> None:
    """Run the first arm as a pipeline.

    Args:
        run: Its folder; the result is in `02-grpo`.
        files: Rows of SFT and tasks of GRPO.
        keys: Further keys of rft.
    """
    run_rft(
        *("pipeline", "experiment=sft_then_grpo", f"output_dir={run}", *keys),
        *(f"stages.sft.{word}" for word in (*SFT, f"data.train={files.rows}", f"loop.steps={SFT_STEPS}")),
        *(f"stages.grpo.{word}" for word in (*GRPO, f"data.train={files.tasks}", f"loop.steps={GRPO_STEPS}")),
    )


def write_files(folder: Path, seed: int) -> Files:
    """Write the rows of a seed."""
    train = words.embedded("train")
    random.Random(seed).shuffle(train)
    ask = words.short_question
    return Files(
        rows=words.write(folder / "rows.jsonl", train[:NUM_ROWS], ask=ask, with_answers=True),
        tasks=words.write(folder / "tasks.jsonl", train[NUM_ROWS:], ask=ask),
        held_out=words.write(folder / "held_out.jsonl", words.embedded("test"), ask=ask),
    )


def sample_base(run: Path, tasks: Path, keys: Sequence[str]) -> None:
    """Sample a group of each task from the base model."""
    run_rft(
        *("evaluate", f"output_dir={run}", f"data.test={tasks}", "model.path=embedded:tiny", SHORT, *keys),
        *("graders.correct.use=reasoning_gym", f"evaluation.completions_per_task={COMPLETIONS_PER_PROMPT}"),
    )


def problems(seed: int, outcome: Outcome) -> list[str]:
    """Return the statements that a seed contradicts."""
    found = []
    if outcome.base.pass_rate > MAX_PASS_RATE:
        found.append(f"the base model is right in {outcome.base.pass_rate:.2%} of its samples")
    if outcome.base.informative_share > MAX_INFORMATIVE_SHARE:
        found.append(f"{outcome.base.informative_share:.1%} of the base model's groups teach something")
    if (mean := outcome.after["SFT then GRPO"].mean) < MIN_SCORE:
        found.append(f"SFT then GRPO ends at {mean:.3f}, below {MIN_SCORE}")
    return [f"seed {seed}: {problem}" for problem in found]


def print_tables(outcomes: Mapping[int, Outcome]) -> None:
    """Print the start and the results of all seeds."""
    head = ["seed", "base samples", "right", "groups that teach", "GRPO alone: samples", "right", "groups that teach"]
    rows = [[str(seed), *cells(outcome.base), *cells(outcome.alone)] for seed, outcome in outcomes.items()]
    print("\n" + report.table(head, rows))
    steps = f"{SFT_STEPS} + {GRPO_STEPS} steps", *[f"{SFT_STEPS + GRPO_STEPS} steps"] * 2
    arms = [f"{name}, {of}" for name, of in zip(ARMS, steps, strict=True)]
    head = ["seed", "before", "after SFT of the first arm", *arms, "SFT then GRPO - SFT"]
    rows = [
        [str(seed), outcome.before.text(), outcome.between.text()]
        + [outcome.after[name].text() for name in ARMS]
        + [outcome.difference.text(signed=True)]
        for seed, outcome in outcomes.items()
    ]
    print("\n" + report.table(head, rows))


def cells(of: Signal) -> list[str]:
    """Return number of samples, share of right ones, and share of informative groups."""
    return [f"{of.num_completions:,}", f"{of.pass_rate:.2%}", f"{of.informative_share:.1%}"]


if __name__ == "__main__":
    main()
