"""Write the tasks that ship in the package, split into train, validation and test: reasoning-gym families, and games.

Run it from the repository root::

    python scripts/make_embedded_tasks.py

Each line of ``<output>/<family>/<split>.jsonl`` is one task: ``messages`` (the question as reasoning-gym words it),
``answer`` (its gold answer) and ``metadata`` (what reasoning-gym's own scorer needs, with ``source_dataset``).
No question occurs twice, within a split or across splits. ``demonstrations.jsonl`` holds the first tasks of train with
``completion``: the answer, worked out first. The seeds are fixed: the same version of reasoning-gym writes the same
bytes. Every row is read back from its file and scored, so a row that cannot be graded is never left.

Each line of ``<output>/guess_number/<split>.jsonl`` is one game with its ``secret``. Every secret occurs equally often.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

from agent_episodes import GAME, HIGHEST
from embedded_skills import CALCULATOR, EMBEDDED, FAMILIES, WORK, Family, draw, read_rows, score
from embedded_tokenizer import END_THINK, THINK

SPLITS = ("train", "validation", "test")
NUM_DEMONSTRATIONS = 64
TASK_SEED = 1_000_000
GAMES_PER_SECRET = {"train": 10, "validation": 2, "test": 10}


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


def write_demonstrations(folder: Path, family: Family) -> None:
    """Write the first training tasks of a family with a worked answer."""
    lines = []
    for row in read_rows(folder / "train.jsonl")[:NUM_DEMONSTRATIONS]:
        completion = f"{THINK}{WORK[family.name](row['metadata'])}{END_THINK}{row['answer']}"
        lines.append(json.dumps({**row, "completion": completion}, ensure_ascii=True) + "\n")
    (folder / "demonstrations.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


def write_games(folder: Path) -> None:
    """Write the games of guessing a number, in random order."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for split, times in GAMES_PER_SECRET.items():
        secrets = [secret for secret in range(1, HIGHEST + 1) for _ in range(times)]
        random.Random(f"{TASK_SEED} {split}").shuffle(secrets)
        lines = []
        for secret in secrets:
            number += 1
            lines.append(json.dumps({"game": number, "secret": secret}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


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
    for family in (*FAMILIES, CALCULATOR):
        folder = output / family.name
        folder.mkdir(parents=True, exist_ok=True)
        rows = iter(make_rows(family))
        for split, size in zip(SPLITS, family.sizes, strict=True):
            lines = [json.dumps(next(rows), ensure_ascii=True) + "\n" for _ in range(size)]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
            print(f"{family.name}/{split}.jsonl: {size} tasks, {sum(map(len, lines)) / 1000:.0f} kB")
        if family in FAMILIES:
            write_demonstrations(folder, family)
        check(folder)
    write_games(output / GAME)


if __name__ == "__main__":
    main()
