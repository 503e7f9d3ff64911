"""Makes completions that deserve full marks, and completions that deserve no reward, from a task's reference."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

from rft.grading.cited_answers import read_sources, without_citations
from rft.grading.notation import as_number as spelled_number
from rft.grading.notation import canonical, unnamed
from rft.grading.statements import stated_answer
from rft.turns import PASSAGES
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
"""Formats in which models write an answer. `{answer}` stands for the answer, `{json}` for the answer as JSON."""

MAX_COMPARED_CHARS = 500
"""Longer answers are compared as texts; only their whitespace may differ."""
MAX_QUOTED_WORDS = 12
CHOICES = ("choices", "options")
"""Columns that may hold the options of a multiple-choice task."""

_EXPRESSION = re.compile(r"[0-9(][0-9a-z+\-*/^().,% \u00d7\u00f7]{2,}[0-9a-z)]")


def dressed(template: str, answer: str) -> str:
    """Return the answer in a format. Braces inside the answer are not replaced."""
    parts = {"{answer}": answer, "{json}": json.dumps(answer)}
    return re.sub(r"\{answer\}|\{json\}", lambda match: parts[match[0]], template)


def as_text(gold: Any) -> str:
    """Return a reference as a model would write it: a text unchanged, any other value as JSON."""
    return gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False, default=str)


def choices_of(task: Task) -> list[str] | None:
    """Return the options of a multiple-choice task; None for other tasks."""
    for column in CHOICES:
        value = task.item.get(column)
        if isinstance(value, Mapping) and isinstance(value.get("text"), Sequence):
            value = value["text"]
        if isinstance(value, Sequence) and not isinstance(value, str) and 1 < len(value) <= len(ascii_uppercase):
            return [str(option) for option in value]
    return None


def right_answers(task: Task, column: str, relevant: str = "relevant") -> list[str]:
    """Return the reference, and further right answers; the plainest one first.

    A multiple-choice task has the letter and the text of its reference, too. A task with passages has the reference
    with citations, and with a quotation.

    Args:
        task: The task.
        column: The column with the reference.
        relevant: The column with the ids of the passages that hold the answer.
    """
    gold = task.item.get(column)
    answers = [as_text(gold)]
    options = choices_of(task)
    if options is not None:
        texts = [option.strip().casefold() for option in options]
        place = None
        if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(options):
            place = gold
        elif str(gold).strip().casefold() in texts:
            place = texts.index(str(gold).strip().casefold())
        elif len(str(gold).strip()) == 1 and str(gold).strip().upper() in ascii_uppercase[: len(options)]:
            place = ascii_uppercase.index(str(gold).strip().upper())
        if place is not None:
            answers += [ascii_uppercase[place], options[place]]
    return list(dict.fromkeys([*answers, *_cited(task, answers[0], relevant)]))


def _cited(task: Task, answer: str, relevant: str) -> list[str]:
    """Return an answer with the citations that it should have, and also with a quotation; empty if it has some."""
    if PASSAGES not in task.item:
        return []
    sources = read_sources(task, relevant)
    best = [name for name in sources.texts if name in sources.cited_best]
    if not best or sources.is_left_out or without_citations(answer, sources.texts) != answer.strip():
        return []
    marks = " ".join(f"[{name}]" for name in best)
    sentences = re.split(r"(?<=[.;!?])\s+", sources.texts[best[0]])
    quoted = next((text for text in sentences if answer.casefold() in text.casefold()), sentences[0])
    quotation = " ".join(quoted.replace('"', " ").split()[:MAX_QUOTED_WORDS]).rstrip(".;!?")
    return [f"{answer} {marks}", f'{answer} "{quotation}" [{best[0]}]']


def short(gold: str) -> str:
    """Return the final answer of a whole solution, as in GSM8K (`... #### 42`); any other reference unchanged."""
    stated = stated_answer(gold) if "####" in gold or "\\boxed{" in gold else None
    return stated or gold


def is_same(first: str, second: str) -> bool:
    """Whether two answers differ only in case, whitespace and mathematical notation."""
    if len(first) > MAX_COMPARED_CHARS or len(second) > MAX_COMPARED_CHARS:
        return " ".join(first.split()) == " ".join(second.split())
    (spelled, number), (second_spelled, second_number) = _spelled(first), _spelled(second)
    return spelled == second_spelled or (number is not None and number == second_number)


@lru_cache(maxsize=4096)
def _spelled(text: str) -> tuple[str, Fraction | None]:
    spelled = unnamed(canonical(text)).casefold()
    return spelled, spelled_number(spelled)


def as_number(text: str) -> float | None:
    """Return a text as a number; None for any other text."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def near_misses(answer: str, other: str | None = None) -> list[tuple[str, str]]:
    """Return wrong answers that resemble the right one, each with a note on how it was made.

    Args:
        answer: The right answer.
        other: A wrong answer, for texts that begin with the right answer: "18 or 5", "18 is wrong; 5".
    """
    if len(answer) >= MAX_COMPARED_CHARS // 2 or "\n" in answer or answer[:1] in ("{", "[") or is_python(answer):
        return []
    number = as_number(answer)
    misses = [("denied", f"It is not {answer}.")] if number is None and _is_prose(answer) else []
    if number is not None and abs(number) <= 1e15:
        is_whole = number == int(number)
        changed = [str(int(number) + 1), str(int(number) - 1)] if is_whole else [repr(number + 1), repr(number - 1)]
        misses += [("off by one", text) for text in changed]
        misses += [("its opposite", answer[1:] if answer.startswith("-") else f"-{answer}")] if number else []
        misses += [("an extra digit", f"{answer}0")] if number and is_whole and answer[-1].isdigit() else []
    if other is not None:
        misses += [("a hedge", f"{answer} or {other}"), ("a retraction", f"{answer} is wrong; {other}")]
    return misses


def parts_of(answer: str) -> list[str] | None:
    """Return ever shorter parts of an answer, made by deleting fields or words; None if it has no such parts."""
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
    """Whether a text is a Python program."""
    if not re.search(r"^\s*(?:def|class|import|from|print|for|while)\b", text, re.MULTILINE):
        return False
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def prompt_text(task: Task) -> str:
    """Return the text of the prompt's last message."""
    return message_text(task.messages[-1].get("content"))


def message_text(content: Any) -> str:
    """Return a message's content as text; the content is a string or OpenAI's list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, Mapping))


def expression_in(prompt: str) -> str | None:
    """Return the last calculation in a prompt, such as `21 - 71`."""
    expressions = [
        text.strip() for text in _EXPRESSION.findall(prompt) if re.search(r"[0-9)]\s*[-+*/^\u00d7\u00f7]", text)
    ]
    return expressions[-1] if expressions else None


def _is_prose(text: str) -> bool:
    return not re.search(r"[{}\[\]\\;=]", text)
