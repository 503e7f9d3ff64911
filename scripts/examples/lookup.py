"""Make the data of the example `lookup`: facts such as `b4k QRT`, and questions that ask for one.

    python scripts/examples/lookup.py

Every question asks for a key of its own, so no fact of the test can be learned from the training rows. A part of the
training questions asks for keys that no document has; they are answered with `?`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

FOLDER = Path(__file__).parents[2] / "rft" / "embedded" / "examples" / "lookup"
SEED = 0
NUM_ROWS = {"demonstrations": 4800, "validation": 60, "test": 300}
MISSING_SHARE = 0.4
"""Share of the demonstrations whose key no document has."""


def main() -> None:
    """Write documents, demonstrations, validation and test tasks."""
    choices = random.Random(SEED)
    keys = iter(distinct_keys(choices, sum(NUM_ROWS.values())))
    documents: list[dict[str, object]] = []
    for split, count in NUM_ROWS.items():
        rows = []
        for number in range(count):
            key, is_missing = next(keys), split == "demonstrations" and number < MISSING_SHARE * count
            value = "?" if is_missing else "".join(choices.sample(ascii_uppercase, 3))
            if not is_missing:
                documents.append({"id": f"p{len(documents) + 1}", "text": f"{key} {value}"})
            rows.append(row(split, key, value, None if is_missing else str(documents[-1]["id"])))
        choices.shuffle(rows)
        write(FOLDER / f"{split}.jsonl", rows)
    choices.shuffle(documents)
    write(FOLDER / "documents.jsonl", documents)


def distinct_keys(choices: random.Random, count: int) -> list[str]:
    """Return different keys of a letter, a digit and a letter."""
    every = [one + two + three for one in ascii_lowercase for two in digits for three in ascii_lowercase]
    return choices.sample(every, count)


def row(split: str, key: str, value: str, document: str | None) -> dict[str, object]:
    """Return a demonstration, or a task that names its passage and says what is right without it."""
    question: dict[str, object] = {"prompt": f"{key}?", "answer": f"{key}{value}"}
    if split == "demonstrations":
        return question | {"completion": question["answer"]}
    return question | {"relevant": [document], "left_out": {"answer": f"{key}?"}}


def write(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a file of JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
