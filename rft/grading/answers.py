"""What most graders start with: the answer in a completion, and the reference in a task."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from rft.types import Task

MAX_JSON_CHARS = 100_000
"""Longer JSON is not read."""
MAX_JSON_DEPTH = 50
"""Nor is JSON nested deeper than this: parsers and validators recurse."""

_ANCHOR = re.compile(r"(?i)\banswer\b\W{0,5}(?:is|are|:|=)\s*:?|####")
_FENCE = re.compile(r"```[ \t]*(?:[a-zA-Z]+\b)?\s*(.*?)\s*```", re.DOTALL)
_JSON_NEST = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_NEGATION = re.compile(r"(?:\b(?:not|never|cannot|neither|nor)|n['\u2019]t)\b(?:\W+\w+){0,3}\W*", re.IGNORECASE)


def final_answer(completion: str) -> str:
    """Return what follows the last `</think>` (all of it where there is no thinking), stripped.

    A `<think>` that is never closed means that the model did not get to an answer: the result is empty. Where the
    prompt already opens the thinking, a completion cut before `</think>` cannot be told from an answer; a grader
    that minds looks at `rollout.stop`.
    """
    answer = completion.rpartition("</think>")[2]
    return "" if "<think>" in answer else answer.strip()


def stated_answer(text: str) -> str | None:
    r"""Return the answer that a text marks as such, or None where it marks none.

    That is the content of the last `\boxed{...}`; without one, the line that follows the last "answer is", "answer:"
    or "####".
    """
    start = text.rfind("\\boxed{")
    if start >= 0:
        return _braced(text, start + len("\\boxed{"))
    end = max((match.end() for match in _ANCHOR.finditer(text)), default=None)
    if end is None:
        return None
    return text[end:].strip().partition("\n")[0].strip()


def is_negated(text: str, start: int) -> bool:
    """Whether a word like "not" stands before a place in a text, with three words and no punctuation between at most.

    The 42 in "it is not equal to 42" is no answer of 42.
    """
    before = re.split(r"[.,;:!?\n]", text[max(0, start - 60) : start])[-1]
    return any(match.end() == len(before) for match in _NEGATION.finditer(before))


def json_answer(completion: str) -> Any:
    """Return the JSON value that the final answer is: all of it, or all that stands in its one fenced block.

    Beside the fenced block there may be prose. With two blocks it is not clear which one is the answer.

    Raises:
        ValueError: It is no JSON, has several blocks, is too long or nested too deep, repeats a key, or holds NaN, an
            infinity, or a number beyond the range of a float.
    """
    text = final_answer(completion)
    if len(text) > MAX_JSON_CHARS:
        raise ValueError(f"longer than {MAX_JSON_CHARS} characters")
    text = text.removeprefix("\ufeff").strip()
    if text[:1] not in ("{", "[", '"'):
        blocks = _FENCE.findall(text)
        if len(blocks) > 1:
            raise ValueError(f"the answer has {len(blocks)} fenced blocks; put the JSON into the only one")
        text = blocks[0] if blocks else text
    depth = 0
    for token in _JSON_NEST.findall(text):
        depth += (token in "[{") - (token in "]}")
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")
    return json.loads(
        text,
        object_pairs_hook=_without_repeated_keys,
        parse_constant=lambda name: _finite(name, float),
        parse_float=lambda digits: _finite(digits, float),
        parse_int=lambda digits: _finite(digits, int),
    )


def reference(task: Task, column: str) -> Any:
    """Return a task's value in a column; None where the row leaves it empty.

    Raises:
        LookupError: The task has no such column.
    """
    if column not in task.item:
        raise LookupError(f"task {task.id} has no column '{column}'; it has: {', '.join(task.item) or 'none'}")
    return task.item[column]


def _braced(text: str, start: int) -> str | None:
    """Return what stands between an opened brace and the one that closes it, or None where none does."""
    depth = 1
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += (match[0] == "{") - (match[0] == "}")
        if not depth:
            return text[start : match.start()].strip()
    return None


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _finite(digits: str, kind: type[int] | type[float]) -> int | float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"{digits[:20]} is not a finite number")
    return kind(digits)
