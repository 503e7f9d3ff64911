"""Graders that reward only right answers, for `audit_rates.py`."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from rft.grading import final_answer
from rft.types import Task

GRADERS: dict[str, str] = {}
"""The kind of tasks of each grader, by the grader's name."""


def on(tasks: str) -> Callable[[Any], Any]:
    """Add a grader to `GRADERS`."""
    return lambda function: GRADERS.update({function.__name__: tasks}) or function


@on("sums")
def whole_number(completion: str, task: Task) -> bool:
    """Accepts a single number after the thinking."""
    text = final_answer(completion).strip()
    return re.fullmatch(r"-?\d+", text, re.ASCII) is not None and int(text) == int(task.item["answer"])


@on("sums")
def boxed_number(completion: str, task: Task) -> bool:
    """Accepts the number in a box at the end."""
    match = re.search(r"\\boxed\{(-?\d+)\}\W*$", final_answer(completion), re.ASCII)
    return match is not None and match[1] == task.item["answer"]


@on("sums")
def tagged_number(completion: str, task: Task) -> bool:
    """Accepts the number in a single tag."""
    matches = re.findall(r"<answer>\s*(-?\d+)\s*</answer>", final_answer(completion), re.ASCII)
    return matches == [task.item["answer"]]


@on("sums")
def number_behind_hashes(completion: str, task: Task) -> bool:
    """Accepts the number in a last line of the form `#### 42`."""
    match = re.search(r"^#### (-?\d+)$", final_answer(completion).strip().split("\n")[-1], re.ASCII)
    return match is not None and match[1] == task.item["answer"]


@on("sums")
def penalty_for_wrong_numbers(completion: str, task: Task) -> float:
    """Returns -1 for wrong answers and 1 for right ones."""
    return 1.0 if whole_number(completion, task) else -1.0


@on("sums")
def ten_points(completion: str, task: Task) -> float:
    """Returns 10 for right answers."""
    return 10.0 * whole_number(completion, task)


@on("capitals")
def same_name(completion: str, task: Task) -> bool:
    """Accepts the name in any case."""
    return final_answer(completion).strip().rstrip(".").casefold() == task.item["answer"].casefold()


@on("capitals")
def name_in_quotes(completion: str, task: Task) -> bool:
    """Accepts the name with or without quotes."""
    return final_answer(completion).strip().strip("\"'") == task.item["answer"]


@on("capitals")
def name_as_json(completion: str, task: Task) -> bool:
    """Accepts the name in a JSON object with one key."""
    try:
        return bool(json.loads(final_answer(completion)) == {"answer": task.item["answer"]})
    except ValueError:
        return False


@on("choices")
def one_letter(completion: str, task: Task) -> bool:
    """Accepts a single letter, with or without brackets."""
    match = re.fullmatch(r"\(?([A-D])\)?\.?", final_answer(completion).strip())
    return match is not None and match[1] == task.item["answer"]


@on("choices")
def letter_behind_answer(completion: str, task: Task) -> bool:
    """Accepts one `Answer: B`, at the end."""
    text = final_answer(completion).strip()
    match = re.search(r"(?:^|\n)Answer: ([A-D])$", text)
    return match is not None and text.count("Answer:") == 1 and match[1] == task.item["answer"]


@on("records")
def same_record(completion: str, task: Task) -> bool:
    """Accepts an equal JSON object."""
    try:
        return bool(json.loads(final_answer(completion)) == task.item["answer"])
    except (ValueError, RecursionError):
        return False


@on("records")
def fields_of_record(completion: str, task: Task) -> float:
    """Returns the squared share of right fields of an object with the right keys."""
    expected = task.item["answer"]
    try:
        given = json.loads(final_answer(completion))
    except (ValueError, RecursionError):
        return 0.0
    if not isinstance(given, dict) or set(given) != set(expected):
        return 0.0
    return float(sum(given[key] == value for key, value in expected.items()) / len(expected)) ** 2


def in_tags(completion: str, task: Task) -> bool:
    """Rewards the style of an answer in tags."""
    return re.search(r"<answer>[^<]+</answer>\s*$", completion) is not None
