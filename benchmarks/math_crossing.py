"""Grades every gold answer of a file in GSM8K's format with `math` against every row. Only the row's value may pay.

    python benchmarks/math_crossing.py gsm8k/test.jsonl [--workers 2]

The script grades each solution against its own row, then each distinct answer against each distinct gold value. Rows
of equal value are the same pair, so this covers all pairs of rows. `Decimal`, and not math-verify, decides which values
are equal. The exit code is 1 if a wrong answer is paid or a right one is not.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path

from graders.math_answer import Math
from graders.math_reading import read_answer
from rft.types import Score, Split, Task

GRADER = Math()


def main() -> None:
    """Grade, and print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    solutions = [json.loads(line)["answer"] for line in given.file.read_text(encoding="utf-8").splitlines()]
    golds = [solution.rpartition("####")[2].strip() for solution in solutions]
    by_value = {value_of(gold): gold for gold in golds}
    answers = sorted({read_answer(solution) or "" for solution in solutions})
    started = time.monotonic()
    with ProcessPoolExecutor(given.workers) as pool:
        own = list(pool.map(paid, solutions, golds, chunksize=50))
        crossed = [one for row in pool.map(row_of_pairs, [answers] * len(by_value), by_value.values()) for one in row]
    counts = collections.Counter(crossed)
    values = collections.Counter(map(value_of, golds))
    print(f"{len(golds)} rows, {len(by_value)} distinct values, {len(answers)} distinct answers")
    print(f"solutions paid in full by their own row: {sum(own)} of {len(own)}")
    print(f"pairs of distinct answer and value: {len(crossed)}, {dict(counts)}")
    print(f"pairs of rows covered: {len(golds) ** 2}, {sum(n * n for n in values.values())} of equal value")
    print(f"{time.monotonic() - started:.0f} s with {given.workers} processes")
    sys.exit(not (all(own) and set(counts) == {"equal, paid", "different, not paid"}))


def value_of(text: str) -> Decimal:
    """Return the number of an answer in GSM8K's format."""
    return Decimal(text.replace(",", "").replace("$", ""))


def row_of_pairs(answers: list[str], gold: str) -> list[str]:
    """Count the results of every answer with this gold value."""
    return [
        ("equal" if value_of(answer) == value_of(gold) else "different") + (", paid" if is_paid else ", not paid")
        for answer in answers
        for is_paid in [paid(f"The answer is {answer}.", gold)]
    ]


def paid(completion: str, gold: str) -> bool:
    """Whether a completion has score 1. A score other than 0 and 1 ends the script."""
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item={"answer": gold}, split=Split.TEST)
    score = GRADER.grade(completion, task)
    if not isinstance(score, Score) or score.value not in (0.0, 1.0):
        raise ValueError(f"{completion!r} with {gold!r}: {score}")
    return score.value == 1.0


if __name__ == "__main__":
    main()
