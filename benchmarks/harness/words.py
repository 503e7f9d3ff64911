"""The embedded words to spell backward, as tasks and as worked answers.

The embedded model numbers the letters of a word, and then writes them from the last to the first:
`<think>n1e2o3n4</think>noen`. It has learned this for words of three to six letters, after the question of
reasoning-gym.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "spell_backward"


def embedded(split: str) -> list[dict[str, Any]]:
    """Return the embedded tasks of a split."""
    return [json.loads(line) for line in (TASKS / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def question(item: dict[str, Any]) -> str:
    """Return the question as reasoning-gym asks it."""
    return str(item["messages"][-1]["content"])


def short_question(item: dict[str, Any]) -> str:
    """Return the question without reasoning-gym's example, which the embedded model has not seen."""
    return f"Spell this word backward: {item['metadata']['word']}"


def worked(item: dict[str, Any]) -> str:
    """Return the answer of a task, worked out first."""
    numbered = (f"{letter}{place}" for place, letter in enumerate(item["metadata"]["word"], start=1))
    return f"<think>{''.join(numbered)}</think>{item['answer']}"


def write(
    file: Path, items: Iterable[dict[str, Any]], *, ask: Callable[[dict[str, Any]], str], with_answers: bool = False
) -> Path:
    """Write items as tasks, or with worked answers as demonstrations; return the file.

    Args:
        file: A `.jsonl` file.
        items: From `embedded`.
        ask: Returns the prompt of an item.
        with_answers: Whether to write the worked answers.
    """
    file.write_text("".join(_line(item, ask(item), with_answers) for item in items), encoding="utf-8")
    return file


def _line(item: dict[str, Any], prompt: str, with_answer: bool) -> str:
    row = {
        "messages": [{"role": "user", "content": prompt}],
        "answer": item["answer"],
        "metadata": item["metadata"],
        **({"completion": worked(item)} if with_answer else {}),
    }
    return json.dumps(row) + "\n"
