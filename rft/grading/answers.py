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

_END_OF_TURN = (
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<|return|>", "</s>", "<eos>",
    "<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip
"""Of ChatML, GPT-2, Llama 3, Phi, gpt-oss, Llama 2 and Mistral, Gemma, and DeepSeek."""
_FENCE = re.compile(r"```[ \t]*(?:[a-zA-Z]+\b)?\s*(.*?)\s*```", re.DOTALL)
_JSON_NEST = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def final_answer(completion: str) -> str:
    """Return what follows the last `</think>` (all of it where there is no thinking), stripped.

    A `<think>` that is never closed means that the model did not get to an answer: the result is empty. Where the
    prompt already opens the thinking, a completion cut before `</think>` cannot be told from an answer; a grader
    that minds looks at `rollout.stop`. Tokens that end a turn, which some samplers leave in, are cut from the end.
    """
    answer = completion.rpartition("</think>")[2].rstrip()
    while (ending := next((one for one in _END_OF_TURN if answer.endswith(one)), None)) is not None:
        answer = answer.removesuffix(ending).rstrip()
    return "" if "<think>" in answer else answer.strip()


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


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _finite(digits: str, kind: type[int] | type[float]) -> int | float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"{digits[:20]} is not a finite number")
    return kind(digits)
