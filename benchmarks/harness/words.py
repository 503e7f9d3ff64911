"""Words to spell backward, as tasks and as worked answers.

The embedded model numbers the letters of a word, and then writes them from the last to the first:
`<think>n1e2o3n4</think>noen`. It has learned this for words of three to six letters, after the question of
reasoning-gym.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "spell_backward"


def draw(num: int, *, letters: int, seed: int) -> list[dict[str, Any]]:
    """Draw items of reasoning-gym's `spell_backward`; no two have the same word, whatever the case of its letters.

    Args:
        num: Number of items.
        letters: Length of the words.
        seed: Seed of reasoning-gym.
    """
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(
        "spell_backward", size=2 * num, seed=seed, min_word_len=letters, max_word_len=letters
    )
    items = {str(item["metadata"]["word"]).lower(): item for item in dataset}
    if len(items) < num:
        raise ValueError(f"{2 * num} items have only {len(items)} different words, not {num}")
    return list(items.values())[:num]


def embedded(split: str) -> list[dict[str, Any]]:
    """Return the embedded tasks of a split as items of reasoning-gym."""
    rows = map(json.loads, (TASKS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines())
    return [{**row, "question": row["messages"][-1]["content"]} for row in rows]


def question(item: dict[str, Any]) -> str:
    """Return the question as reasoning-gym asks it."""
    return str(item["question"])


def short_question(item: dict[str, Any]) -> str:
    """Return the question without reasoning-gym's example, which the embedded model has not seen."""
    return f"Spell this word backward: {item['metadata']['word']}"


def worked(item: dict[str, Any]) -> str:
    """Return the answer of an item, worked out first."""
    numbered = (f"{letter}{place}" for place, letter in enumerate(item["metadata"]["word"], start=1))
    return f"<think>{''.join(numbered)}</think>{item['answer']}"


def write(
    file: Path, items: Iterable[dict[str, Any]], *, ask: Callable[[dict[str, Any]], str], with_answers: bool = False
) -> Path:
    """Write items as tasks, or with worked answers as demonstrations; return the file.

    Args:
        file: A `.jsonl` file.
        items: From `draw` or `embedded`.
        ask: Returns the prompt of an item.
        with_answers: Whether to write the worked answers.
    """
    file.write_text("".join(_line(item, ask(item), with_answers) for item in items), encoding="utf-8")
    return file


def split(items: Sequence[dict[str, Any]], *sizes: int) -> list[list[dict[str, Any]]]:
    """Cut items into consecutive parts of these sizes."""
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    return [list(items[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _line(item: dict[str, Any], prompt: str, with_answer: bool) -> str:
    row = {
        "messages": [{"role": "user", "content": prompt}],
        "answer": item["answer"],
        "metadata": item["metadata"],
        **({"completion": worked(item)} if with_answer else {}),
    }
    return json.dumps(row) + "\n"
