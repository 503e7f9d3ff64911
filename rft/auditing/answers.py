"""Completions that deserve full marks, and completions that deserve nothing, made from a task's reference."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

from rft.grading.notation import as_number as spelled_number
from rft.grading.notation import canonical, unnamed
from rft.grading.statements import stated_answer
from rft.types import Task

THINKING = "<think>\nLet me work this out.\n</think>\n\n"

FORMATS: Mapping[str, str] = {
    "bare": "{answer}",
    "sentence": "The answer is {answer}.",
    "marked": "Answer: {answer}",
    "boxed": r"\boxed{{answer}}",
    "bold": "**{answer}**",
    "trailing period": "{answer}.",
    "hashes": "#### {answer}",
    "json": '{"answer": {json}}',
    "tagged": "<answer>{answer}</answer>",
    "fenced": "```\n{answer}\n```",
    "python": "```python\n{answer}\n```",
    "thinking": THINKING + "{answer}",
    "thinking, tagged": THINKING + "<answer>{answer}</answer>",
    "thinking, boxed": THINKING + r"\boxed{{answer}}",
}
"""The ways in which models write an answer. `{answer}` stands for it, `{json}` for it as JSON."""

MAX_COMPARED_CHARS = 500
"""Of longer answers only space may differ."""
CHOICES = ("choices", "options")
"""Columns that may hold the options of a multiple choice."""

_EXPRESSION = re.compile(r"[0-9(][0-9a-z+\-*/^().,% \u00d7\u00f7]{2,}[0-9a-z)]")


def dressed(template: str, answer: str) -> str:
    """The answer in a format; a single pass, so that an answer's own braces are left alone."""
    parts = {"{answer}": answer, "{json}": json.dumps(answer)}
    return re.sub(r"\{answer\}|\{json\}", lambda match: parts[match[0]], template)


def as_text(gold: Any) -> str:
    """A reference as a model would write it: text as it is, all else as JSON."""
    return gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False, default=str)


def choices_of(task: Task) -> list[str] | None:
    """The options of a multiple choice, where the task has a column of them."""
    for column in CHOICES:
        value = task.item.get(column)
        if isinstance(value, Mapping) and isinstance(value.get("text"), Sequence):
            value = value["text"]
        if isinstance(value, Sequence) and not isinstance(value, str) and 1 < len(value) <= len(ascii_uppercase):
            return [str(one) for one in value]
    return None


def right_answers(task: Task, column: str) -> list[str]:
    """The reference, and where it is one of several options its letter and its text; the plainest first."""
    gold = task.item.get(column)
    answers = [as_text(gold)]
    options = choices_of(task)
    if options is not None:
        texts = [one.strip().casefold() for one in options]
        place = None
        if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(options):
            place = gold
        elif str(gold).strip().casefold() in texts:
            place = texts.index(str(gold).strip().casefold())
        elif len(str(gold).strip()) == 1 and str(gold).strip().upper() in ascii_uppercase[: len(options)]:
            place = ascii_uppercase.index(str(gold).strip().upper())
        if place is not None:
            answers += [ascii_uppercase[place], options[place]]
    return list(dict.fromkeys(answers))


def short(gold: str) -> str:
    """The answer in a reference that is a whole solution, as in GSM8K (`... #### 42`), or else the reference."""
    stated = stated_answer(gold) if "####" in gold or "\\boxed{" in gold else None
    return stated or gold


def is_same(one: str, other: str) -> bool:
    """Whether two answers are the same to any sane grader: but for case, space, and how mathematics is written."""
    if len(one) > MAX_COMPARED_CHARS or len(other) > MAX_COMPARED_CHARS:
        return " ".join(one.split()) == " ".join(other.split())
    (spelled, number), (other_spelled, other_number) = _spelled(one), _spelled(other)
    return spelled == other_spelled or (number is not None and number == other_number)


@lru_cache(maxsize=4096)
def _spelled(text: str) -> tuple[str, Fraction | None]:
    spelled = unnamed(canonical(text)).casefold()
    return spelled, spelled_number(spelled)


def as_number(text: str) -> float | None:
    """The number that a text is, if it is one."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def near_misses(answer: str, other: str | None = None) -> list[tuple[str, str]]:
    """Wrong answers that look right, each with how it was made.

    Args:
        answer: The right answer.
        other: A wrong one. With it, answers are made that begin with the right one and go on: "18 or 5", "180",
            "18 is wrong; 5".
    """
    if len(answer) >= MAX_COMPARED_CHARS // 2 or "\n" in answer or answer[:1] in ("{", "[") or is_python(answer):
        return []
    number = as_number(answer)
    misses = [("denied", f"It is not {answer}.")] if number is None and _is_prose(answer) else []
    if number is not None and abs(number) <= 1e15:
        is_whole = number == int(number)
        changed = [str(int(number) + 1), str(int(number) - 1)] if is_whole else [repr(number + 1), repr(number - 1)]
        misses += [("off by one", one) for one in changed]
        misses += [("its opposite", answer[1:] if answer.startswith("-") else f"-{answer}")] if number else []
        misses += [("a digit more", f"{answer}0")] if number and is_whole and answer[-1].isdigit() else []
    if other is not None:
        misses += [("a hedge", f"{answer} or {other}"), ("taken back", f"{answer} is wrong; {other}")]
    return misses


def parts_of(answer: str) -> list[str] | None:
    """A ladder from the whole answer down to little of it: fields of an object or words deleted. None: it has none."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and len(value) >= 2:
        names = list(value)
        return [json.dumps({name: value[name] for name in names[:count]}) for count in range(len(names), 0, -1)]
    lines = answer.splitlines()
    if is_python(answer) or len(lines) > 3 or value is not None:
        return None
    words = answer.split()
    if len(words) < 4:
        return None
    counts = sorted({len(words) * quarter // 4 for quarter in (4, 3, 2, 1)}, reverse=True)
    return [" ".join(words[:count]) for count in counts]


def is_python(text: str) -> bool:
    """Whether a text is a Python program that defines something."""
    if not re.search(r"^\s*(?:def|class|import|from|print|for|while)\b", text, re.MULTILINE):
        return False
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def prompt_text(task: Task) -> str:
    """The prompt's last message as text."""
    return message_text(task.messages[-1].get("content"))


def message_text(content: Any) -> str:
    """A message's content as text: a string, or OpenAI's list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, Mapping))


def expression_in(prompt: str) -> str | None:
    """The last thing in a prompt that looks like a calculation, as `21 - 71`."""
    found = [one.strip() for one in _EXPRESSION.findall(prompt) if re.search(r"[0-9)]\s*[-+*/^\u00d7\u00f7]", one)]
    return found[-1] if found else None


def _is_prose(text: str) -> bool:
    return not re.search(r"[{}\[\]\\;=]", text)
