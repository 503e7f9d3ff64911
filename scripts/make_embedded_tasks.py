"""Write the tasks that ship in the package: four reasoning-gym families, each split into train, validation and test.

Run it from the repository root::

    python scripts/make_embedded_tasks.py

Each line of ``<output>/<family>/<split>.jsonl`` is one task: ``messages`` (the question as reasoning-gym words it),
``answer`` (its gold answer) and ``metadata`` (what reasoning-gym's own scorer needs, with ``source_dataset``).
No question occurs twice, within a split or across splits. The seeds are fixed: the same version of reasoning-gym
writes the same bytes. Every row is read back from its file and scored, so a row that cannot be graded is never left.

``FAMILIES`` and ``draw`` are shared with ``make_embedded_model.py``, which trains the tiny model for these tasks.
"""

import argparse
import functools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reasoning_gym

EMBEDDED = Path(__file__).resolve().parents[1] / "rft" / "embedded"
SPLITS = ("train", "validation", "test")
TASK_SEED = 1_000_000
"""Seed of the first task. reasoning-gym seeds item i with ``seed + i``: keep other seeds far from it."""


@dataclass(frozen=True)
class Family:
    """One skill: a reasoning-gym generator, its settings, and how many tasks each split holds."""

    name: str
    skill: str
    settings: dict[str, int]
    sizes: tuple[int, int, int]


FAMILIES = (
    Family(
        name="chain_sum",
        skill="add or subtract two numbers of one or two digits",
        settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
        sizes=(2000, 250, 300),
    ),
    Family(
        name="gcd",
        skill="find the greatest common divisor of two numbers from 2 to 60",
        settings={"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 60},
        sizes=(500, 100, 250),
    ),
    Family(
        name="count_bits",
        skill="count the 1 bits of a number from 1 to 1500",
        settings={"min_n": 1, "max_n": 1500},
        sizes=(500, 100, 250),
    ),
    Family(
        name="spell_backward",
        skill="spell a word of three to six letters backward",
        settings={"min_word_len": 3, "max_word_len": 6},
        sizes=(500, 100, 250),
    ),
)


def draw(family: Family, seed: int) -> Iterator[dict[str, Any]]:
    """Yield reasoning-gym items of a family without end; the same seed yields the same items."""
    dataset = reasoning_gym.create_dataset(family.name, size=1, seed=seed, **family.settings)
    index = 0
    while True:
        yield dataset[index]
        index += 1


def make_rows(family: Family) -> list[dict[str, Any]]:
    """Draw as many different questions as the family's splits hold, in random order, as task rows."""
    rows: dict[str, dict[str, Any]] = {}
    for item in draw(family, TASK_SEED):
        if len(rows) == sum(family.sizes):
            break
        question = item["question"]
        message = {"role": "user", "content": question}
        rows.setdefault(question, {"messages": [message], "answer": item["answer"], "metadata": item["metadata"]})
    # The first items hold most of the small questions (they soon repeat): shuffle, so that the splits are alike.
    shuffled = list(rows.values())
    random.Random(TASK_SEED).shuffle(shuffled)
    return shuffled


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of one task file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@functools.cache
def scorer(source_dataset: str) -> Callable[[str, dict[str, Any]], float]:
    """Return the scorer of a reasoning-gym family (reasoning-gym makes a new data set at each request)."""
    return reasoning_gym.get_score_answer_fn(source_dataset)


def score(row: dict[str, Any], answer: str) -> float:
    """Score an answer to a row with the scorer of the row's own reasoning-gym family."""
    entry = {"question": row["messages"][-1]["content"], "answer": row["answer"], "metadata": row["metadata"]}
    return float(scorer(row["metadata"]["source_dataset"])(answer, entry))


def check(folder: Path) -> None:
    """Read the splits of one family back; raise if a gold answer does not score 1 or a question occurs twice."""
    seen: set[str] = set()
    for split in SPLITS:
        for row in read_rows(folder / f"{split}.jsonl"):
            question = row["messages"][-1]["content"]
            if question in seen:
                raise ValueError(f"{folder.name}/{split}: the question occurs twice: {question!r}")
            if score(row, row["answer"]) != 1.0 or score(row, "nonsense") == 1.0:
                raise ValueError(f"{folder.name}/{split}: the scorer does not tell right from wrong: {question!r}")
            seen.add(question)


def main() -> None:
    """Write and check the splits of every family."""
    parser = argparse.ArgumentParser(description="Write the tasks that ship in the package.")
    parser.add_argument("--output", type=Path, default=EMBEDDED / "tasks", help="folder to write to")
    output = parser.parse_args().output
    for family in FAMILIES:
        folder = output / family.name
        folder.mkdir(parents=True, exist_ok=True)
        rows = iter(make_rows(family))
        for split, size in zip(SPLITS, family.sizes, strict=True):
            lines = [json.dumps(next(rows), ensure_ascii=True) + "\n" for _ in range(size)]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
            print(f"{family.name}/{split}.jsonl: {size} tasks, {sum(map(len, lines)) / 1000:.0f} kB")
        check(folder)


if __name__ == "__main__":
    main()
