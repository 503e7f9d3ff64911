"""Graders that pay right answers and nothing else, for `audit_rates.py`."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from rft.grading import final_answer
from rft.types import Task

GRADERS: dict[str, str] = {}
"""Names of the graders, each with the kind of tasks that it grades."""


def on(tasks: str) -> Callable[[Any], Any]:
    """Add a grader to `GRADERS`."""
    return lambda function: GRADERS.update({function.__name__: tasks}) or function


@on("sums")
def whole_number(completion: str, task: Task) -> bool:
    """One number and nothing else, after the thinking."""
    text = final_answer(completion).strip()
    return re.fullmatch(r"-?\d+", text, re.ASCII) is not None and int(text) == int(task.item["answer"])


@on("sums")
def boxed_number(completion: str, task: Task) -> bool:
    """The last box, which must be the end."""
    found = re.search(r"\\boxed\{(-?\d+)\}\W*$", final_answer(completion), re.ASCII)
    return found is not None and found[1] == task.item["answer"]


@on("sums")
def tagged_number(completion: str, task: Task) -> bool:
    """One tag around the number."""
    found = re.findall(r"<answer>\s*(-?\d+)\s*</answer>", final_answer(completion), re.ASCII)
    return found == [task.item["answer"]]


@on("sums")
def number_behind_hashes(completion: str, task: Task) -> bool:
    """One line of the form `#### 42`, the last."""
    found = re.search(r"^#### (-?\d+)$", final_answer(completion).strip().split("\n")[-1], re.ASCII)
    return found is not None and found[1] == task.item["answer"]


@on("sums")
def penalty_for_wrong_numbers(completion: str, task: Task) -> float:
    """-1 for wrong, 1 for right."""
    return 1.0 if whole_number(completion, task) else -1.0


@on("sums")
def ten_points(completion: str, task: Task) -> float:
    """10 for right."""
    return 10.0 * whole_number(completion, task)


@on("capitals")
def same_name(completion: str, task: Task) -> bool:
    """The same letters in the same order, in any case."""
    return final_answer(completion).strip().rstrip(".").casefold() == task.item["answer"].casefold()


@on("capitals")
def name_in_quotes(completion: str, task: Task) -> bool:
    """The name, in quotes or not."""
    return final_answer(completion).strip().strip("\"'") == task.item["answer"]


@on("capitals")
def name_as_json(completion: str, task: Task) -> bool:
    """A JSON object with one key."""
    try:
        return bool(json.loads(final_answer(completion)) == {"answer": task.item["answer"]})
    except ValueError:
        return False


@on("choices")
def one_letter(completion: str, task: Task) -> bool:
    """One letter, perhaps in brackets, and nothing else."""
    found = re.fullmatch(r"\(?([A-D])\)?\.?", final_answer(completion).strip())
    return found is not None and found[1] == task.item["answer"]


@on("choices")
def letter_behind_answer(completion: str, task: Task) -> bool:
    """`Answer: B`, once, at the end."""
    text = final_answer(completion).strip()
    found = re.search(r"(?:^|\n)Answer: ([A-D])$", text)
    return found is not None and text.count("Answer:") == 1 and found[1] == task.item["answer"]


@on("records")
def same_record(completion: str, task: Task) -> bool:
    """The same JSON object."""
    try:
        return bool(json.loads(final_answer(completion)) == task.item["answer"])
    except (ValueError, RecursionError):
        return False


@on("records")
def fields_of_record(completion: str, task: Task) -> float:
    """The share of right fields, squared, of an object with the right keys."""
    wanted = task.item["answer"]
    try:
        given = json.loads(final_answer(completion))
    except (ValueError, RecursionError):
        return 0.0
    if not isinstance(given, dict) or set(given) != set(wanted):
        return 0.0
    return float(sum(given[key] == value for key, value in wanted.items()) / len(wanted)) ** 2


def in_tags(completion: str, task: Task) -> bool:
    """Style: whether the answer stands in tags."""
    return re.search(r"<answer>[^<]+</answer>\s*$", completion) is not None
