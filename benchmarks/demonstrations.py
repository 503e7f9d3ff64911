"""Measures the two demonstrations of several turns, a calculator and a guessing game, with several seeds.

    python benchmarks/demonstrations.py               # seeds 0 to 2; tables in Markdown
    python benchmarks/demonstrations.py --seeds 0 sampler=transformers

`rft train experiment=calculator` and `experiment=guess_number` are run as they are. The script fails if the base model
is right in more than `MOST_BEFORE` of the held-out sums, if a trained one is right in less than `LEAST_AFTER` of the
sums or games, or if a calculator takes longer than `MOST_S` seconds from the end of its start to its own end.

The guessing game has exact yardsticks: the shares of games that are won within the questions by a player who ignores
the hints and never repeats a number, by one who draws at random from the numbers that agree with the hints, and by one
who always asks for the middle.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness import report
from harness.commands import measured, read_summary, run_rft

HIGHEST, QUESTIONS = 31, 5
MOST_BEFORE = 0.5
LEAST_AFTER = {"calculator": 0.9, "guess_number": 0.85}
MOST_S = 120.0


def main() -> None:
    """Run both demonstrations with each seed, print the tables, and fail if a result is not as stated above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(3))
    parser.add_argument("--experiments", nargs="+", default=list(LEAST_AFTER), choices=list(LEAST_AFTER))
    parser.add_argument("keys", nargs="*", help="further keys of rft, such as sampler=transformers")
    given = parser.parse_args()
    print(f"{report.machine()}\n\n{yardsticks()}\n", flush=True)
    head = [
        "experiment",
        "seed",
        "before",
        "after",
        "after - before",
        "start, s",
        "after the start, s",
        "others, cores",
    ]
    rows: list[list[str]] = []
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rft-demonstrations-") as folder:
        for experiment in given.experiments:
            for seed in given.seeds:
                row, problems = run(Path(folder) / f"{experiment}-{seed}", experiment, seed, given.keys)
                print(row, *problems, flush=True)
                rows.append(row)
                missed += problems
    print("\n" + report.table(head, rows))
    if missed:
        raise SystemExit("\n".join(missed))


def run(folder: Path, experiment: str, seed: int, keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Run a demonstration; return its row of the table, and the statements that it contradicts."""
    done = run_rft("train", f"experiment={experiment}", f"seed={seed}", f"output_dir={folder}", *keys)
    before, after, difference = (measured(folder, name) for name in ("before", "after", "difference"))
    start_s = read_summary(folder)["time_s"]["start"]
    rest_s = done.wall_s - start_s
    problems = []
    if after.mean < LEAST_AFTER[experiment]:
        problems.append(f"ends at {after.mean:.3f}, below {LEAST_AFTER[experiment]}")
    if experiment == "calculator" and before.mean > MOST_BEFORE:
        problems.append(f"begins at {before.mean:.3f}, above {MOST_BEFORE}")
    if experiment == "calculator" and rest_s > MOST_S:
        problems.append(f"takes {rest_s:.0f} s after its start, more than {MOST_S:.0f} s")
    row = [experiment, str(seed), before.text(), after.text(), difference.text(signed=True)]
    row += [f"{start_s:.0f}", f"{rest_s:.0f}", f"{done.other_cores:.2f}"]
    return row, [f"{experiment}, seed {seed}: {problem}" for problem in problems]


def yardsticks() -> str:
    """Return a table with the shares of games that simple players win."""
    shares = {
        "ignores the hints": QUESTIONS / HIGHEST,
        "at random, but agrees with the hints": random_share(HIGHEST, QUESTIONS),
        "bisection": bisection_share(HIGHEST, QUESTIONS),
    }
    return report.table(["player", "finds the number"], [[name, f"{share:.2f}"] for name, share in shares.items()])


@cache
def random_share(numbers: int, questions: int) -> float:
    """Return the share of games that a player wins who draws from the numbers that agree with all hints.

    Every question hits with probability 1/n. Otherwise the number is below the guess with probability (g - 1)/n, or
    above it with (n - g)/n, and the game goes on with that many numbers.
    """
    if numbers == 0 or questions == 0:
        return 0.0
    goes_on = sum(
        below * random_share(below, questions - 1) + above * random_share(above, questions - 1)
        for below, above in ((guess, numbers - 1 - guess) for guess in range(numbers))
    )
    return 1 / numbers + goes_on / numbers**2


@cache
def bisection_share(numbers: int, questions: int) -> float:
    """Return the share of games that a player wins who always asks for the middle."""
    if numbers == 0 or questions == 0:
        return 0.0
    below = (numbers - 1) // 2
    above = numbers - 1 - below
    won = 1 + below * bisection_share(below, questions - 1) + above * bisection_share(above, questions - 1)
    return won / numbers


if __name__ == "__main__":
    main()
