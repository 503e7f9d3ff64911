"""Graders that reward only right answers, for `audit_rates.py`."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
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


@on("sums")
def decimal_number(completion: str, task: Task) -> bool:
    """Accepts a decimal number of equal value, such as `42.0`."""
    text = final_answer(completion).strip()
    return re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?", text, re.ASCII) is not None and Decimal(text) == Decimal(
        task.item["answer"]
    )


@on("sums")
def number_with_separators(completion: str, task: Task) -> bool:
    """Accepts a whole number with a plus sign or with commas between thousands."""
    text = final_answer(completion).strip().removeprefix("+")
    is_number = re.fullmatch(r"-?(\d+|\d{1,3}(,\d{3})+)", text, re.ASCII) is not None
    return is_number and int(text.replace(",", "")) == int(task.item["answer"])


@on("sums")
def number_as_json(completion: str, task: Task) -> bool:
    """Accepts the number in a JSON object with one key."""
    try:
        given = json.loads(final_answer(completion))
    except (ValueError, RecursionError):
        return False
    return isinstance(given, dict) and set(given) == {"answer"} and str(given["answer"]) == task.item["answer"]


@on("sums")
def bold_number(completion: str, task: Task) -> bool:
    """Accepts a number in bold and nothing else."""
    return final_answer(completion).strip() == f"**{task.item['answer']}**"


@on("sums")
def number_on_the_answer_line(completion: str, task: Task) -> bool:
    """Accepts one `Answer: 42`, at the end."""
    return _on_the_answer_line(completion, task.item["answer"])


@on("sums")
def number_in_a_fence(completion: str, task: Task) -> bool:
    """Accepts a code block that holds the number and nothing else."""
    content = _in_a_fence(completion)
    return content is not None and content == task.item["answer"]


@on("sums")
def right_and_brief(completion: str, task: Task) -> float:
    """Returns 1 for the number alone, and down to 0.5 for it behind a long thought."""
    return whole_number(completion, task) * max(0.5, 1 - len(completion) / 2000)


@on("capitals")
def name_on_the_answer_line(completion: str, task: Task) -> bool:
    """Accepts one `Answer: Paris`, at the end."""
    return _on_the_answer_line(completion, task.item["answer"])


@on("capitals")
def boxed_name(completion: str, task: Task) -> bool:
    """Accepts the name in a box and nothing else."""
    return final_answer(completion).strip() == rf"\boxed{{{task.item['answer']}}}"


@on("capitals")
def tagged_name(completion: str, task: Task) -> bool:
    """Accepts the name in a single tag."""
    matches = re.findall(r"<answer>\s*([^<]*?)\s*</answer>", final_answer(completion))
    return matches == [task.item["answer"]]


@on("capitals")
def bold_name(completion: str, task: Task) -> bool:
    """Accepts the name in bold and nothing else."""
    return final_answer(completion).strip() == f"**{task.item['answer']}**"


@on("capitals")
def one_sentence(completion: str, task: Task) -> bool:
    """Accepts the name, alone or in the sentence `The answer is Paris`."""
    return final_answer(completion).strip() in (task.item["answer"], f"The answer is {task.item['answer']}.")


@on("choices")
def tagged_letter(completion: str, task: Task) -> bool:
    """Accepts the letter in a single tag."""
    return re.findall(r"<answer>\s*([A-D])\s*</answer>", final_answer(completion)) == [task.item["answer"]]


@on("choices")
def boxed_letter(completion: str, task: Task) -> bool:
    """Accepts the letter in a box and nothing else."""
    return final_answer(completion).strip() == rf"\boxed{{{task.item['answer']}}}"


@on("choices")
def letter_as_json(completion: str, task: Task) -> bool:
    """Accepts the letter in a JSON object with one key."""
    try:
        return bool(json.loads(final_answer(completion)) == {"answer": task.item["answer"]})
    except (ValueError, RecursionError):
        return False


@on("records")
def record_in_a_fence(completion: str, task: Task) -> bool:
    """Accepts an equal JSON object, also in a code block and nothing around it."""
    try:
        return bool(json.loads(_in_a_fence(completion) or final_answer(completion)) == task.item["answer"])
    except (ValueError, RecursionError):
        return False


@on("records")
def record_in_canonical_form(completion: str, task: Task) -> bool:
    """Compares objects as JSON with sorted keys, so types count, too."""
    try:
        given = json.loads(final_answer(completion))
    except (ValueError, RecursionError):
        return False
    return json.dumps(given, sort_keys=True) == json.dumps(task.item["answer"], sort_keys=True)


def _on_the_answer_line(completion: str, answer: str) -> bool:
    """Whether the last line, and no other, is `Answer: ` with the answer."""
    text = final_answer(completion).strip()
    return text.count("Answer:") == 1 and text.split("\n")[-1] == f"Answer: {answer}"


def _in_a_fence(completion: str) -> str | None:
    """Return the content of a completion that is one code block; None of any other."""
    match = re.fullmatch(r"```(?:json)?\n([^`]*)\n```", final_answer(completion).strip())
    return match[1].strip() if match else None


def in_tags(completion: str, task: Task) -> bool:
    """Rewards the style of an answer in tags."""
    return re.search(r"<answer>[^<]+</answer>\s*$", completion) is not None
