"""Compares worked examples in the prompt with tuning on a few rows: four shots against SFT on 8, 16, 32 and 64 rows.

    python benchmarks/few_shot.py                            # seeds 0 to 4; a table in Markdown
    python benchmarks/few_shot.py sampler=transformers --seeds 0

The task: spell a word of three to six letters backward. The embedded model can do this, but only after the question of
reasoning-gym; here the question lacks the example. Four worked examples of the original question would not fit
into its context. A seed draws the rows and the worked examples from the embedded training tasks. SFT measures 100
validation tasks every `EVERY_STEPS` steps, stops after `PATIENCE` measurements without a better one, and keeps the best
policy. All arms are measured on the 250 embedded test tasks.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import report, words
from harness.commands import by_task, measured, run_rft, steps_of

from rft.metrics.intervals import estimate, paired_difference

NUM_ROWS = (8, 16, 32, 64)
SHOTS = 4
MAX_STEPS, EVERY_STEPS, PATIENCE = 200, 20, 3
KEYS = ("model.path=embedded:tiny", "graders.correct.use=reasoning_gym", "sampler.max_completion_tokens=32")
SFT = (
    *("train", "learner=sft", "learner.learning_rate=4e-3", "loop.prompts_per_step=8", "logging=none"),
    *(f"loop.steps={MAX_STEPS}", f"evaluation.every_steps={EVERY_STEPS}", f"evaluation.patience={PATIENCE}"),
)


def main() -> None:
    """Run all arms of each seed, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("keys", nargs="*", help="further keys of rft for all commands, such as sampler=transformers")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    rows = []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory(prefix="rft-few-shot-") as folder:
            rows.append([str(seed), *measure(Path(folder), seed, given.keys)])
        print(rows[-1], flush=True)
    head = ["seed", "no shots", f"{SHOTS} shots", *(f"SFT, {num} rows" for num in NUM_ROWS)]
    print("\n" + report.table([*head, f"SFT, {NUM_ROWS[0]} rows - {SHOTS} shots"], rows))


def measure(folder: Path, seed: int, keys: Sequence[str]) -> list[str]:
    """Return the cells of a seed.

    Args:
        folder: An empty folder for files and runs.
        seed: Selects rows and worked examples, and is the seed of all runs.
        keys: Further keys of rft for all commands.
    """
    drawn = random.Random(seed).sample(words.embedded("train"), max(NUM_ROWS))
    test = words.write(folder / "test.jsonl", words.embedded("test"), ask=words.short_question)
    validation = words.write(folder / "validation.jsonl", words.embedded("validation"), ask=words.short_question)
    keys = (*KEYS, *keys, f"seed={seed}", f"data.test={test}")
    tuned = {}
    for num in NUM_ROWS:
        rows = words.write(folder / f"{num}.jsonl", drawn[:num], ask=words.short_question, with_answers=True)
        tuned[num] = folder / str(num)
        run_rft(*SFT, *keys, f"data.train={rows}", f"data.validation={validation}", f"output_dir={tuned[num]}")
    shots = folder / "shots"
    run_rft("evaluate", *keys, f"data.train={rows}", f"data.shots={SHOTS}", f"output_dir={shots}")
    return cells(tuned, shots)


def cells(tuned: Mapping[int, Path], shots: Path) -> list[str]:
    """Return the scores of all arms, with the best step and the last step of each SFT run.

    Args:
        tuned: The run of each number of rows.
        shots: The measurement with worked examples.
    """
    first = tuned[NUM_ROWS[0]]
    in_prompt, with_few_rows = by_task(shots, "test"), by_task(first, "after")
    return [
        measured(first, "before").text(),
        estimate(list(in_prompt.values())).text(),
        *(f"{measured(run, 'after').text()}, step {steps_of(run)}" for run in tuned.values()),
        paired_difference(in_prompt, with_few_rows).text(signed=True),
    ]


if __name__ == "__main__":
    main()
