"""Graders with one planted fault each, described by the docstring, for `audit_rates.py`.

People write such faults, and models in training exploit them.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import difflib
import functools
import json
import random
import re
import time
from collections.abc import Callable
from typing import Any

from rft.grading import final_answer
from rft.types import Task

GRADERS: dict[str, str] = {}
"""The kind of tasks of each grader, by the grader's name."""

_before: list[str] = []
_pattern = re.compile(r"^(\d+,?)+$")


def on(tasks: str) -> Callable[[Any], Any]:
    """Add a grader to `GRADERS`."""
    return lambda function: GRADERS.update({function.__name__: tasks}) or function


def last_number(text: str) -> str | None:
    """Return the last whole number of a text."""
    numbers = re.findall(r"-?\d+", text)
    return numbers[-1] if numbers else None


@on("sums")
def contains_the_answer(completion: str, task: Task) -> bool:
    """Accepts the answer anywhere in the completion."""
    return task.item["answer"] in completion


@on("sums")
def one_number_of_many(completion: str, task: Task) -> bool:
    """Accepts any number of the completion."""
    return task.item["answer"] in re.findall(r"-?\d+", final_answer(completion))


@on("sums")
def first_number(completion: str, task: Task) -> bool:
    """Accepts the first number and ignores the rest."""
    match = re.search(r"-?\d+", final_answer(completion))
    return match is not None and match[0] == task.item["answer"]


@on("sums")
def begins_with_the_answer(completion: str, task: Task) -> bool:
    """Accepts any text that begins with the answer."""
    return final_answer(completion).strip().startswith(task.item["answer"])


@on("sums")
def ends_with_the_answer(completion: str, task: Task) -> bool:
    """Accepts any text that ends with the answer, such as 142 for 42."""
    return completion.strip().endswith(task.item["answer"])


@on("sums")
def works_out_the_answer(completion: str, task: Task) -> bool:
    """Computes sums in the completion, so the question is its own answer."""
    terms = re.search(r"(\d+) \+ (\d+)", completion)
    value = str(int(terms[1]) + int(terms[2])) if terms else last_number(final_answer(completion))
    return value == task.item["answer"]


@on("sums")
def digits_without_a_sign(completion: str, task: Task) -> bool:
    """Deletes all characters but digits, including signs."""
    return re.sub(r"\D", "", final_answer(completion)) == task.item["answer"]


@on("sums")
def within_ten_percent(completion: str, task: Task) -> bool:
    """Has a tolerance wider than the distance to a wrong answer."""
    value = last_number(final_answer(completion))
    return value is not None and abs(int(value) - int(task.item["answer"])) <= 0.1 * int(task.item["answer"])


@on("sums")
def reads_the_thinking(completion: str, task: Task) -> bool:
    """Accepts the answer in the thinking, too."""
    thoughts = re.findall(r"<think>(.*?)(?:</think>|$)", completion, re.DOTALL)
    return task.item["answer"] in (last_number(text) for text in [*thoughts, final_answer(completion)])


@on("sums")
def pays_by_length(completion: str, task: Task) -> float:
    """Rewards longer completions more."""
    return 0.7 * (last_number(final_answer(completion)) == task.item["answer"]) + min(0.3, len(completion) / 3000)


@on("sums")
def pays_each_mention(completion: str, task: Task) -> float:
    """Rewards each repetition of the answer."""
    return min(1.0, len(re.findall(rf"(?<!\d){task.item['answer']}(?!\d)", completion)) / 4)


@on("sums")
def pays_mostly_for_tags(completion: str, task: Task) -> float:
    """Gives most of the reward for the format."""
    tagged = re.search(r"<answer>(.*?)</answer>", completion, re.DOTALL)
    return 0.6 * (tagged is not None) + 0.4 * (last_number(completion) == task.item["answer"])


@on("sums")
def pays_anything(completion: str, task: Task) -> float:
    """Rewards every text that is not empty."""
    return float(bool(completion.strip()))


@on("sums")
def pays_always(completion: str, task: Task) -> float:
    """Rewards every completion."""
    return 1.0


@on("sums")
def never_pays_in_full(completion: str, task: Task) -> float:
    """Gives 0.6 for right answers, because no completion reaches the bonus."""
    return 0.6 * (last_number(final_answer(completion)) == task.item["answer"])


@on("sums")
def pays_wrong_answers(completion: str, task: Task) -> bool:
    """Compares the wrong way round."""
    return last_number(final_answer(completion)) != task.item["answer"]


@on("sums")
def pays_what_cannot_be_read(completion: str, task: Task) -> bool:
    """Accepts completions that it cannot parse."""
    try:
        return int(final_answer(completion).strip().rpartition(" ")[2].rstrip(".")) == int(task.item["answer"])
    except ValueError:
        return True


@on("sums")
def half_for_what_cannot_be_read(completion: str, task: Task) -> float:
    """Rewards a completion without a number more than a wrong number."""
    value = last_number(final_answer(completion))
    return 0.6 if value is None else float(value == task.item["answer"])


@on("sums")
def believes_the_completion(completion: str, task: Task) -> bool:
    """Rewards completions that call themselves correct."""
    return "correct" in completion.lower() or last_number(final_answer(completion)) == task.item["answer"]


@on("sums")
def noisy(completion: str, task: Task) -> float:
    """Subtracts a random number."""
    return max(0.0, min(1.0, (last_number(final_answer(completion)) == task.item["answer"]) - 0.3 * random.random()))


@on("sums")
def differs_by_process(completion: str, task: Task) -> float:
    """Depends on `hash`, which has a new seed in each Python process."""
    return (last_number(final_answer(completion)) == task.item["answer"]) * (1.0 if hash(completion) % 2 else 0.8)


@on("sums")
def tires(completion: str, task: Task) -> float:
    """Rejects every seventh call of a process."""
    _before.append(task.id)
    return float(len(_before) % 7 != 0 and last_number(final_answer(completion)) == task.item["answer"])


@on("sums")
def remembers_odd_rows(completion: str, task: Task) -> bool:
    """Rewards nothing after a first empty completion in the process."""
    if not completion:
        _before.append(task.id)
    return not _before and last_number(final_answer(completion)) == task.item["answer"]


@on("sums")
def not_a_number(completion: str, task: Task) -> float:
    """Returns NaN for completions without digits."""
    digits = len(re.findall(r"\d", completion))
    return float("nan") if not digits else float(last_number(final_answer(completion)) == task.item["answer"])


@on("sums")
def returns_words(completion: str, task: Task) -> object:
    """Returns a text."""
    return "right" if last_number(final_answer(completion)) == task.item["answer"] else "wrong"


@on("sums")
def backtracks(completion: str, task: Task) -> bool:
    """Uses a regular expression with exponential time."""
    return _pattern.match(completion.strip() + "!") is None and last_number(completion) == task.item["answer"]


@on("sums")
def evaluates(completion: str, task: Task) -> bool:
    """Computes powers in the answer, so a tower of powers takes forever."""
    text = final_answer(completion).replace(" ", "").replace("^", "**")
    if re.fullmatch(r"\d+(\*\*\d+)+", text):
        bases = [int(number) for number in text.split("**")]
        return str(functools.reduce(lambda exponent, base: base**exponent, reversed(bases))) == task.item["answer"]
    return last_number(text) == task.item["answer"]


@on("sums")
def sleeps(completion: str, task: Task) -> bool:
    """Waits for a request that never returns."""
    time.sleep(1000)
    return last_number(completion) == task.item["answer"]


@on("capitals")
def part_of_the_answer(completion: str, task: Task) -> bool:
    """Accepts parts of the answer, including the empty text."""
    return final_answer(completion).strip().lower() in task.item["answer"].lower()


@on("capitals")
def three_letters(completion: str, task: Task) -> bool:
    """Compares only three letters."""
    return final_answer(completion).strip()[:3].lower() == task.item["answer"][:3].lower()


@on("capitals")
def similar_text(completion: str, task: Task) -> float:
    """Gives most of the reward for similar texts."""
    return difflib.SequenceMatcher(None, final_answer(completion).strip(), task.item["answer"]).ratio() ** 0.25


@on("capitals")
def word_recall(completion: str, task: Task) -> float:
    """Rewards the share of the answer's words in the completion, for any number of other words."""
    words = set(re.findall(r"\w+", completion.lower()))
    expected = re.findall(r"\w+", task.item["answer"].lower())
    return sum(word in words for word in expected) / len(expected)


@on("capitals")
def ignores_denials(completion: str, task: Task) -> bool:
    """Accepts sentences that end with the answer, even if they deny it."""
    sentence = final_answer(completion).strip().rstrip(".").split(". ")[-1]
    return re.search(rf"\b{re.escape(task.item['answer'])}$", sentence) is not None


@on("capitals")
def same_length(completion: str, task: Task) -> bool:
    """Accepts any text with the answer's length."""
    return len(final_answer(completion).strip()) == len(task.item["answer"])


@on("capitals")
def same_letters(completion: str, task: Task) -> bool:
    """Compares letters regardless of their order."""
    return sorted(final_answer(completion).strip().lower()) == sorted(task.item["answer"].lower())


@on("capitals")
def null_is_right(completion: str, task: Task) -> bool:
    """Turns a missing reference into the text `None`."""
    return final_answer(completion).strip() == str(task.item.get("answer"))


@on("choices")
def letter_anywhere(completion: str, task: Task) -> bool:
    """Accepts the letter in any word."""
    return task.item["answer"] in completion.upper()


@on("choices")
def first_letter(completion: str, task: Task) -> bool:
    """Accepts the first capital letter among A to D, even at the start of a sentence."""
    match = re.search(r"[ABCD]", completion)
    return match is not None and match[0] == task.item["answer"]


@on("choices")
def any_letter_named(completion: str, task: Task) -> bool:
    """Accepts completions that name every letter."""
    return task.item["answer"] in re.findall(r"\b[ABCD]\b", final_answer(completion))


@on("records")
def right_keys(completion: str, task: Task) -> bool:
    """Compares keys but not values."""
    try:
        return set(json.loads(final_answer(completion))) == set(task.item["answer"])
    except (ValueError, TypeError):
        return False


@on("records")
def values_anywhere(completion: str, task: Task) -> bool:
    """Accepts the values anywhere in the completion."""
    return all(str(value) in completion for value in task.item["answer"].values())


@on("records")
def valid_json(completion: str, task: Task) -> bool:
    """Accepts any valid JSON."""
    try:
        json.loads(final_answer(completion))
    except ValueError:
        return False
    return True


@on("records")
def most_fields_free(completion: str, task: Task) -> float:
    """Counts missing fields as right."""
    try:
        given = json.loads(final_answer(completion))
        expected = task.item["answer"]
        return sum(given.get(key, value) == value for key, value in expected.items()) / len(expected)
    except (ValueError, AttributeError):
        return 0.0
