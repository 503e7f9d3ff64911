"""Plants copies of training rows in test rows, and counts those that `rft data check` finds.

    python benchmarks/leakage.py                        10,000 rows of random words
    python benchmarks/leakage.py train.jsonl question   the rows of a file, and the column with their prompts

A hundred test rows are copies: as they are, in upper case, with other numbers, with a tenth of the words replaced, or
both. The other test rows are not: everything found among them is counted as false. Rows made from templates, among
which only the same words count, must give no pair.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

from harness import report

from rft.data.hygiene.lookalikes import find_lookalikes
from rft.data.hygiene.rows import read_data_rows
from rft.types import Split

WAYS = ("as it is", "upper case", "other numbers", "a tenth of the words", "numbers and words")
PLANTED = 100
NAMES, THINGS = ("Tom", "Ann", "Bob", "Eve", "Kim", "Lou"), ("apples", "pens", "cars", "books", "coins")


def main() -> None:
    """Plant, search, and print the table."""
    print(f"{report.machine()}\n")
    texts = of_file(*sys.argv[1:]) if sys.argv[1:] else of_random_words(10_000)
    began = time.perf_counter()
    clean = find_lookalikes(texts)
    seconds = time.perf_counter() - began
    alike = sum(len(numbers) - 1 for numbers in clean.equal) + len(clean.pairs)
    print(f"{len(texts):,} rows as they are: {alike} pairs, in {seconds:.1f} s")
    templates = find_lookalikes(of_templates(10_000))
    print(f"10,000 rows of templates: {len(templates.equal) + len(templates.pairs)} pairs")
    found, planted, false = plant(texts, [number for pair in clean.pairs for number in (pair.first, pair.second)])
    rows = [[way, str(planted[way]), str(found[way])] for way in WAYS]
    print("\n" + report.table(["copy", "planted", "found"], rows) + f"\n\nfalse pairs: {false}")


def plant(texts: list[str], without: list[int]) -> tuple[Counter[str], Counter[str], int]:
    """Return the found and the planted copies by way, and the number of false pairs in five draws."""
    found: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    false = 0
    sources = sorted({*range(len(texts))} - {*without})
    for seed in range(5):
        draw = random.Random(seed)
        chosen = draw.sample(sources, PLANTED)
        ways = draw.choices(WAYS, k=PLANTED)
        copies = [changed(texts[source], way, texts, draw) for source, way in zip(chosen, ways, strict=True)]
        alike = find_lookalikes([*texts, *copies])
        pairs = {(first, other) for first, *others in alike.equal for other in others}
        pairs |= {(pair.first, pair.second) for pair in alike.pairs}
        for number, (source, way) in enumerate(zip(chosen, ways, strict=True), start=len(texts)):
            planted[way] += 1
            found[way] += (source, number) in pairs
            pairs.discard((source, number))
        false += sum(other >= len(texts) for _, other in pairs)
    return found, planted, false


def changed(text: str, way: str, texts: list[str], draw: random.Random) -> str:
    """Return a copy of a text."""
    if way == "upper case":
        return text.upper()
    if way in ("a tenth of the words", "numbers and words"):
        words = text.split()
        for place in draw.sample(range(len(words)), len(words) // 10):
            words[place] = draw.choice(draw.choice(texts).split())
        text = " ".join(words)
    if way in ("other numbers", "numbers and words"):
        text = re.sub(r"\d+", lambda _: str(draw.randint(2, 999)), text)
    return text


def of_file(file: str, column: str) -> list[str]:
    """Return the prompts of a task file."""
    rows, _ = read_data_rows(str(Path(file)), key="file", split=Split.TRAIN, columns={"prompt": column})
    return [row.prompt for row in rows]


def of_random_words(count: int) -> list[str]:
    """Return texts of 10 to 60 words out of 3,000, each with a number."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrst", k=draw.randint(2, 9))) for _ in range(3000)]
    return [f"{' '.join(draw.choices(words, k=draw.randint(10, 60)))} {draw.randint(2, 999)}" for _ in range(count)]


def of_templates(count: int) -> list[str]:
    """Return different rows of two templates, as programs make them."""
    draw = random.Random(0)
    rows: dict[str, None] = {}
    while len(rows) < count:
        name, thing, numbers = draw.choice(NAMES), draw.choice(THINGS), draw.choices(range(2, 1000), k=5)
        told = f"{name} has {numbers[0]} {thing} and buys {numbers[1]} more of them. How many {thing} does {name} have?"
        listed = f"Give the sum of the numbers in the following list, as a whole number and without a word: {numbers}"
        rows[draw.choice((told, listed))] = None
    return list(rows)


if __name__ == "__main__":
    main()
